from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.evaluation.matrix.fabricated import make_matrix, measured, with_numbers
from tunesmith.evaluation.matrix.content import (
    Gain,
    gain,
    missing,
    names_text,
    notes,
    short_count,
    untuned,
)
from tunesmith.evaluation.matrix.measured import Value


def test_a_base_that_is_rounded_starts_elsewhere_and_has_a_line_of_its_own() -> None:
    starts = untuned(make_matrix(), "banking")
    assert [start.label for start in starts] == ["untuned", "untuned nf4"]
    assert [start.side.loss for start in starts] == [4.0, 4.1]
    assert [start.label for start in untuned(make_matrix(), "alpaca")] == ["untuned"]


@pytest.mark.parametrize(
    ("loss", "labels"), [(4.003, []), (4.1, ["untuned dora"]), (None, ["untuned dora"])]
)
def test_the_last_digits_of_a_loss_are_no_other_start(
    loss: float | None, labels: list[str]
) -> None:
    old = make_matrix().measured("banking", "dora")
    assert old is not None
    before = replace(old.before, loss=loss)
    starts = untuned(with_numbers(make_matrix(), "banking", "dora", before=before), "banking")
    assert [start.label for start in starts] == ["untuned", "untuned nf4", *labels]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(0.1, 0.2, "better"), (0.2, 0.1, "worse"), (0.1, 0.13, "not told apart")],
)
def test_intervals_that_meet_show_no_difference(before: float, after: float, verdict: str) -> None:
    found = gain(measured(after, before=before), "accuracy")
    assert found == Gain(verdict, "intervals")  # type: ignore[arg-type]


def test_a_paired_difference_tells_what_intervals_do_not() -> None:
    numbers = measured(0.13, before=0.1)
    paired = replace(numbers, differences={"accuracy": Value(value=0.03, low=0.01, high=0.05)})
    assert gain(paired, "accuracy") == Gain("better", "paired difference")


def test_without_intervals_nothing_is_told_apart_and_a_loss_only_falls_or_rises() -> None:
    plain = replace(measured(), after=replace(measured().after, metrics={"x": Value(value=0.9)}))
    before = replace(measured().before, metrics={"x": Value(value=0.1)})
    assert gain(replace(plain, before=before), "x") == Gain("not told apart", "intervals")
    assert gain(measured(losses=(1.0, 2.0)), None) == Gain("worse", "loss alone")
    assert gain(measured(metric=None), "accuracy") is None


def test_cells_of_one_reason_stand_together_failures_first() -> None:
    found = missing(make_matrix().cells)
    assert [(one.status, one.cells) for one in found] == [
        ("failed", ("alpaca:dora",)),
        ("refused", ("banking:deepspeed", "alpaca:deepspeed")),
    ]
    assert names_text(found[1].cells) == "deepspeed of banking, alpaca"
    assert names_text(["a:full", "b:full", "a:lora"]) == "full of a, b; lora of a"


def test_what_makes_cells_hard_to_compare_is_said() -> None:
    assert notes(make_matrix()) == []
    unlike = with_numbers(make_matrix(), "banking", "lora", steps=7, tunesmith="0.2.0")
    busy = unlike.cell("banking", "full")
    assert busy is not None
    said = notes(unlike.with_cell(replace(busy, busy=0.6)))
    assert said[0].startswith("banking: cells of unlike budgets (steps: full 100, lora 7,")
    assert "banking:full 60%" in said[1]
    assert said[2].endswith("0.1.0, 0.2.0")


def test_counts_are_as_short_as_a_column() -> None:
    counts = [short_count(number) for number in (None, 0, 999, 57_600, 134_515_008, 2e9)]
    assert counts == ["-", "0", "999", "57.6k", "134.5M", "2.0G"]
