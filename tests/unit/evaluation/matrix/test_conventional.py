from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.evaluation.matrix.fabricated import make_matrix, with_numbers
from tunesmith.evaluation.matrix import conventional
from tunesmith.evaluation.matrix.conventional import (
    COLUMNS,
    ERRORS,
    LINES,
    Comparison,
    compare,
    errors_at,
    show_errors,
)
from tunesmith.evaluation.matrix.document import Matrix

EMPTY = Matrix(date="2026-11-29", command="", tunesmith="0")


def test_the_usual_table_has_an_answer_for_every_technique() -> None:
    assert len(LINES) == 9
    assert all(len(line.says) == len(COLUMNS) for line in LINES)


def test_every_error_names_a_field_that_is_there() -> None:
    lines = {line.name: line for line in LINES}
    for error in ERRORS:
        assert set(error.columns) <= set(COLUMNS)
        if error.line is None:
            continue
        line = lines[error.line]
        answers = {line.says[COLUMNS.index(column)] for column in error.columns}
        assert len(answers) == 1
        assert ("Yes" in error.says) if answers == {True} else (": No" in error.says)


def test_the_plain_errors_are_marked_where_they_stand() -> None:
    assert errors_at(conventional.PARAMETERS, "LoRA") == [11]
    assert errors_at(conventional.MEMORY, "LoRA") == [8]
    assert errors_at(conventional.PARALLEL, "DoRA") == [12]
    assert errors_at(conventional.PARAMETERS, "QLoRA") == []


def test_every_error_has_what_was_measured_of_it_or_that_nothing_was() -> None:
    for shown in show_errors(EMPTY):
        assert shown.evidence
        assert all("not measured here" in text for text in shown.evidence)
    by_number = {shown.number: shown.evidence for shown in show_errors(make_matrix())}
    assert by_number[8] == ("peak memory, lora by full: banking 0.385, alpaca 0.385; shown here",)
    assert by_number[4] == ("tokens a second, qlora by lora: banking 0.85; shown here",)
    assert by_number[5] == ("tokens a second, ia3 by full: banking 1.33; shown here",)
    assert "not measured here (strategy: deepspeed is not available" in by_number[6][0]
    assert by_number[3] == (
        "score before and after: better in 6 of 7 cells; no difference shown: ia3 of banking",
    )


@pytest.mark.parametrize(
    ("speeds", "verdict"),
    [
        ((100.0, 300.0), "shown in 1 of 2 scenarios"),
        ((300.0, 300.0), "not shown here: no difference"),
        ((400.0, 400.0), "not shown here: the other way round"),
        ((400.0, 300.0), "not shown here: no difference, or the other way round"),
    ],
)
def test_numbers_that_speak_for_the_table_are_told_as_well(
    speeds: tuple[float, float], verdict: str
) -> None:
    matrix = make_matrix()
    for scenario, speed in zip(("banking", "alpaca"), speeds, strict=True):
        matrix = with_numbers(matrix, scenario, "lora", tokens_per_second=speed)
    assert compare(matrix, Comparison("speed", "lora", "full", "below")).endswith(verdict)


def test_equal_memory_is_no_less() -> None:
    said = compare(make_matrix(), Comparison("memory", "dora", "lora", "not below"))
    assert said == "peak memory, dora by lora: banking 1; shown here"


def test_speeds_beside_other_work_are_told_as_such_and_memory_is_not() -> None:
    matrix = make_matrix()
    lora = matrix.cell("banking", "lora")
    assert lora is not None
    busy = matrix.with_cell(replace(lora, busy=0.5))
    assert "other work" in compare(busy, Comparison("speed", "qlora", "lora", "below"))
    assert "other work" not in compare(busy, Comparison("memory", "qlora", "lora", "below"))
