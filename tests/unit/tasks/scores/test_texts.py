from __future__ import annotations

from decimal import Decimal

import pytest

from tunesmith.tasks.scores.score import Score, score, wilson_interval
from tunesmith.tasks.scores.texts import TEXTS, last_number


def exact_match(answers: list[str], references: list[str]) -> Score:
    return score(TEXTS["exact-match"], answers, references)


def json_match(answers: list[str], references: list[str]) -> Score:
    return score(TEXTS["json-match"], answers, references)


def test_exact_match_ignores_white_space_around_and_nothing_else() -> None:
    found = exact_match([" a\n", "A", "a b", "a"], ["a", "a", "a  b", "a"])
    assert (found.value, found.rows) == (0.5, 4)


def test_the_interval_is_wilsons() -> None:
    # Worked example: 8 of 10 gives 0.490 to 0.943.
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@pytest.mark.parametrize(("hits", "rows"), [(0, 1), (1, 1), (0, 80), (80, 80), (1, 3)])
def test_the_interval_holds_the_value_and_stays_in_range(hits: int, rows: int) -> None:
    low, high = wilson_interval(hits, rows)
    assert 0 <= low <= hits / rows <= high <= 1
    assert low < high


def test_no_rows_are_no_score() -> None:
    found = exact_match([], [])
    assert (found.rows, found.low, found.high) == (0, None, None)


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
    found = json_match(answers, references)
    assert found.value == 0.25
    assert found.details == {"valid-json": 0.75, "key intent": 0.5, "key product": 0.25}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5 * 9 = 45\n#### 45", "45"),
        ("#### 1,234,567", "1234567"),
        ("It costs $1,234.50.", "1234.5"),
        ("so x=-5", "-5"),
        ("-$5", "-5"),
        ("\u22127 degrees", "-7"),
        ("10-5", "5"),
        ("(10)-5", "5"),
        ("10 - 5", "5"),
        ("one of 12,34", "34"),
        ("1,2345", "2345"),
        ("a half, .5", "0.5"),
        ("version 3.14.15", "3.14"),
        ("\\boxed{18}", "18"),
        ("80%", "80"),
    ],
)
def test_the_last_number_is_read_as_people_write_it(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


def test_rows_that_cannot_be_right_for_want_of_a_number_are_told() -> None:
    answers = ["#### 1,000.00", "about 9", "none", "none"]
    references = ["#### 1000", "#### 10", "#### 3", "none"]
    found = score(TEXTS["numeric-match"], answers, references)
    assert found.value == 0.25
    assert found.details == {"answers with a number": 0.5, "references with a number": 0.75}


def test_valid_json_is_one_value_and_nothing_else() -> None:
    answers = ['{"a": [1, null]}\n', "3", '{"a": 1} and more', "{'a': 1}", "NaN", ""]
    assert score(TEXTS["valid-json"], answers, [""] * 6).value == pytest.approx(2 / 6)
