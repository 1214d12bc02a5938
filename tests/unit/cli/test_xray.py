from __future__ import annotations

import numpy as np
import pytest

from tests.unit.data.xray_sides import look, side
from tunesmith.cli.xray import MAX_PAIRS, bars, length_bars, pair_lines, show_xray
from tunesmith.data.minhash import signatures
from tunesmith.data.xray.facts import DroppedRows
from tunesmith.data.xray.lengths import measure
from tunesmith.data.xray.overlap import RowPair, RowText
from tunesmith.data.xray.serving import ServingCheck


def test_rows_in_order_are_told_in_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_xray(look(side([10, 20]), serving=ServingCheck(2, 2)))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [
        "8 tokens are trained, of 30 in 2 rows, as tiny sees them.",
        "task chat, form messages, rows that are too long: error; served as trained: same in 2 of "
        "2 rows",
    ]
    assert "tokens 30" in lines
    assert "trained 8 (26.7%)" in lines
    assert not [line for line in lines if line.startswith(("error", "warning", "Labels", "Notes"))]
    assert not [line for line in lines if "begin tokens" in line and "none" in line]


def test_verdicts_come_first_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    show_xray(look(side([10], supervised=[0], has_end=[False])))
    printed = capsys.readouterr().out
    assert printed.index("error: 0 trainable tokens") < printed.index("warning: the end of a reply")
    assert printed.index("warning:") < printed.index("Lengths in tokens")
    assert "  to do: give replies a weight of 1" in printed


def test_sides_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    texts = ["the tide is at nine in the harbour", "the ferry leaves quay seven at noon"]
    arrays = side(
        [10, 90],
        contents=np.arange(2, dtype=np.uint64),
        signatures=signatures(texts),
        label_codes=[0, 1],
        label_names=["tide", "ferry"],
    )
    xray = look(
        {"train": arrays, "validation": arrays},
        max_length=64,
        overflow="drop",
        dropped=[DroppedRows("empty messages", 3, "d.jsonl:4")],
        notes=["system messages are folded"],
        look_up=lambda name, row: RowText(f"{name}.jsonl:{row + 1}", texts[row]),
    )
    show_xray(xray)
    printed = capsys.readouterr().out
    assert "train" in printed
    assert "In validation and in train: 2 equal, 0 nearly" in printed
    assert "  validation.jsonl:1 and train.jsonl:1: about 100% in common" in printed
    assert "    the tide is at nine in the harbour" in printed
    assert "  empty messages (3 rows, first d.jsonl:4)" in printed
    assert "  system messages are folded" in printed
    assert f"  ferry  {'#' * 40} 1" in printed


def test_bars_are_drawn_to_the_longest() -> None:
    assert bars([("a", 200), ("b", 50), ("c", 1), ("d", 0)]) == {
        "a": "#" * 40 + " 200", "b": "#" * 10 + " 50", "c": "# 1", "d": "0",
    }  # fmt: skip
    assert bars([("a", 20), ("the rest", 900)], most=20) == {
        "a": "#" * 40 + " 20", "the rest": "#" * 40 + " 900",
    }  # fmt: skip
    assert bars([]) == {}


def test_bars_of_rows_that_are_too_long_are_drawn_otherwise() -> None:
    lengths = measure([10] * 4 + [100])
    many = measure([1200, 2400])
    assert many is not None
    assert next(iter(length_bars(many, 50))).startswith("1,2")
    assert lengths is not None
    drawn = length_bars(lengths, 50)
    assert drawn["10-17"] == "#" * 40 + " 4"
    assert drawn["98-105"] == "xxxxxxxxxx 1  over 50"


def test_long_rows_and_many_pairs_are_cut_to_lines() -> None:
    pair = RowPair(RowText("a:1", "x\n" * 200), RowText("b:2", "short"), 0.875)
    lines = list(pair_lines([pair] * 9))
    assert len(lines) == 3 * MAX_PAIRS
    assert lines[0] == "a:1 and b:2: about 88% in common"
    assert len(lines[1]) == 98  # two more are set in front where it is printed
    assert lines[1].endswith("...")
    assert lines[2] == "  short"


def test_rows_with_one_long_beginning_are_shown_from_where_they_part() -> None:
    same = "the harbour is closed today, " * 9
    first, second = RowText("a:1", f"{same}at nine"), RowText("b:2", f"{same}at ten")
    _, one, other = pair_lines([RowPair(first, second, 0.9)])
    assert one.startswith("  ...")
    assert one.endswith("at nine")
    assert other.endswith("at ten")
    _, one, other = pair_lines([RowPair(first, first, 1.0)])
    assert one == other
    assert one.startswith("  the harbour")


def test_control_characters_of_rows_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    escape = "\x1b[2J"
    xray = look(
        side([10] * 3, label_codes=[0, 0, 1], label_names=[escape, "no"]),
        notes=[escape],
        dropped=[DroppedRows(escape, 1)],
        model=escape,
    )
    show_xray(xray)
    assert "\x1b" not in capsys.readouterr().out
