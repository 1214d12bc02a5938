from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.data.collate import to_batch
from tunesmith.data.example import Example
from tunesmith.inference.batches import Computed
from tunesmith.inference.head_answers import HeadAnswer, answers_of
from tunesmith.models.headed import Head

FIRST, LAST = 4, 6  # the context


def answer(begin: list[float], end: list[float], *, abstains: bool) -> HeadAnswer:
    """What a head says whose numbers at the first token and in the context are these."""
    places = np.array([0, *range(FIRST, LAST + 1)], dtype=np.int32)
    weights = np.zeros(LAST + 1, dtype=np.float32)
    weights[places] = 1.0
    tokens = np.arange(3, LAST + 4, dtype=np.int32)
    labels = ("",) * len(places)
    example = Example("r", "r", 1, tokens, weights, places=places, labels=labels)
    numbers = torch.tensor([begin, end]).T
    read = Computed(to_batch([example], 0, [0]), numbers)
    head = Head("span", ("start", "end"), abstains=abstains)
    (found,) = answers_of(head, read)
    return found


def test_an_answer_ends_where_it_begins_or_behind() -> None:
    found = answer([0.0, 0.0, 5.0, 0.0], [0.0, 9.0, 0.0, 4.0], abstains=False)
    assert found.span == (FIRST, FIRST)
    found = answer([0.0, 0.0, 9.0, 0.0], [0.0, 9.0, 0.0, 4.0], abstains=False)
    assert found.span == (FIRST + 1, LAST)


@pytest.mark.parametrize(("abstains", "span"), [(True, None), (False, (FIRST, LAST))])
def test_no_answer_is_said_only_by_a_head_that_has_learned_it(
    abstains: bool, span: tuple[int, int] | None
) -> None:
    found = answer([5.0, 3.0, 0.0, 0.0], [5.0, 0.0, 0.0, 3.0], abstains=abstains)
    assert found.span == span
    assert 0 < found.scores["span"] < 1


def test_an_answer_that_is_likelier_than_none_is_given() -> None:
    found = answer([2.0, 3.0, 0.0, 0.0], [2.0, 0.0, 0.0, 3.0], abstains=True)
    assert found.span == (FIRST, LAST)
