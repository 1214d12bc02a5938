"""Invariant 1 for DeepSpeed's ZeRO: the steps of one rank, whatever is spread over several."""

from __future__ import annotations

import pytest

from tests.fakes.rank_training import Case, assert_equal, assert_same, train
from tests.fakes.ranks import in_ranks
from tunesmith.recipe.strategy import DeepSpeedStrategy

pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")


def zero(stage: int) -> DeepSpeedStrategy:
    return DeepSpeedStrategy(type="deepspeed", zero=stage)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_two_ranks_make_the_steps_of_one(method: str, stage: int) -> None:
    case = Case(method, strategy=zero(stage))
    (one,) = in_ranks(train, 1, case)
    first, second = in_ranks(train, 2, case)
    assert_same(first, one)
    assert_equal(first, second)
