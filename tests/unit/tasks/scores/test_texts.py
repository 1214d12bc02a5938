from __future__ import annotations

import pytest

from tunesmith.tasks.scores.score import wilson_interval
from tunesmith.tasks.scores.texts import exact_match, json_match


def test_exact_match_ignores_white_space_around_and_nothing_else() -> None:
    score = exact_match([" a\n", "A", "a b", "a"], ["a", "a", "a  b", "a"])
    assert (score.value, score.rows) == (0.5, 4)


def test_the_interval_is_wilsons() -> None:
    # Worked example: 8 of 10 gives 0.490 to 0.943.
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 80), (80, 80), (1, 3)])
def test_the_interval_holds_the_value_and_stays_in_range(hits: int, rows: int) -> None:
    low, high = wilson_interval(hits, rows)
    assert 0 <= low <= hits / rows <= high <= 1
    assert low < high


def test_no_rows_are_no_score() -> None:
    score = exact_match([], [])
    assert (score.rows, score.low, score.high) == (0, None, None)


def test_answers_and_references_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        exact_match(["a"], [])


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ('{"b":1, "a":[1,2]}', ' {"a":[1,2],"b":1}\n', True),
        ('{"a":1}', '{"a":1.0}', True),
        ('{"a":true}', '{"a":1}', False),
        ('{"a":null}', "{}", False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":1} and more', '{"a":1}', False),
        ("not json", "not json", False),
        ("NaN", "NaN", False),
        ("[" * 100_000, "[]", False),
        ('"\\u00e9"', '"\u00e9"', True),
    ],
)
def test_json_match_compares_values(answer: str, reference: str, same: bool) -> None:
    assert json_match([answer], [reference]).value == float(same)


def test_json_match_says_how_each_key_did() -> None:
    references = ['{"intent":"billing","product":null}'] * 4
    answers = [
        '{"intent":"billing","product":null}',
        '{"intent":"billing","product":"tent"}',
        '{"intent":"returns"}',
        "sorry",
    ]
    score = json_match(answers, references)
    assert score.value == 0.25
    assert score.details == {"valid-json": 0.75, "key intent": 0.5, "key product": 0.25}
