from __future__ import annotations

import pytest

from tunesmith.recipe.task import WrittenTask
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.table import differences_of, row_differences, scores_of

TASK = WrittenTask(type="completion")


def rows(*values: dict[str, float]) -> list[Said]:
    return [Said(f"r:{n}", ("a",), ("b",), values=value) for n, value in enumerate(values)]


def test_a_value_is_the_mean_over_the_rows_that_have_it() -> None:
    found = scores_of(TASK, (), rows({"tune-distance": 0.05}, {}, {"tune-distance": 0.65}))
    score = found["tune-distance"]
    assert score.value == pytest.approx(0.35)
    assert score.low is not None
    assert score.details == pytest.approx(
        {"median": 0.35, "near copies": 0.5, "tunes compared": 2 / 3}
    )


def test_a_share_has_wilsons_interval() -> None:
    score = scores_of(TASK, (), rows(*[{"mc1": 1.0}] * 3, {"mc1": 0.0}))["mc1"]
    assert (score.value, score.rows) == (0.75, 4)
    assert score.low == pytest.approx(0.3006, abs=1e-4)


def test_values_stand_behind_the_scores_of_texts() -> None:
    found = scores_of(TASK, ("exact-match",), rows({"tune-valid": 1.0}))
    assert list(found) == ["exact-match", "tune-valid"]


def test_differences_are_paired() -> None:
    before, after = rows(*[{"mc2": 0.2}] * 9), rows(*[{"mc2": 0.5}] * 9)
    for found in (row_differences(before, after), differences_of(TASK, (), before, after)):
        assert found["mc2"].value == pytest.approx(0.3)
        assert found["mc2"].low == pytest.approx(0.3)
    assert row_differences(before[:3], after) == {}
    assert row_differences((), after) == {}
