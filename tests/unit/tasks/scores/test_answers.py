from __future__ import annotations

import pytest

from tunesmith.tasks.scores.answers import ANSWERS, normalize
from tunesmith.tasks.scores.score import score


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('  The "Great-Gatsby",  a novel.\n', "greatgatsby novel"),
        ("another theatre and Ann", "another theatre and ann"),
        ("the U.S.A.", "usa"),
        ("An", ""),
    ],
)
def test_case_punctuation_articles_and_white_space_do_not_count(text: str, bare: str) -> None:
    assert normalize(text) == bare


def test_a_word_counts_as_often_as_both_say_it() -> None:
    # 1 word is shared of 3 and of 1: precision 1/3, recall 1.
    assert score(ANSWERS["squad-f1"], ["yes yes yes"], [["yes"]]).value == pytest.approx(0.5)


def test_the_value_is_the_mean_over_rows() -> None:
    answers = ["New York subway", "Paris", "", "London"]
    references = [["New York"], ["Lyon", "Paris"], [], []]
    assert score(ANSWERS["squad-f1"], answers, references).value == pytest.approx(2.8 / 4)
    assert score(ANSWERS["squad-em"], answers, references).value == pytest.approx(2 / 4)


def test_rows_with_and_without_an_answer_are_told_apart() -> None:
    answers = ["New York subway", "Paris", "", "London"]
    references = [["New York"], ["Lyon", "Paris"], [], []]
    found = score(ANSWERS["squad-f1"], answers, references).details
    assert found == {"with an answer": pytest.approx(0.9), "without an answer": 0.5}
    assert score(ANSWERS["squad-f1"], answers[:2], references[:2]).details == {}
