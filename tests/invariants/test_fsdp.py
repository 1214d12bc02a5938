"""Invariant 1 for fully sharded training: the steps of one rank, whatever is cut over several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor

from tests.fakes.rank_training import Case, Trainer, assert_equal, assert_same, halt, resume, train
from tests.fakes.ranks import in_ranks
from tunesmith.recipe.strategy import DdpStrategy, FsdpStrategy
from tunesmith.recipe.strategy import Strategy as StrategyPart
from tunesmith.training.strategies.ranks import Ranks

FSDP = FsdpStrategy(type="fsdp")
IN_PARTS = FsdpStrategy(type="fsdp", checkpoints="parts")


@pytest.mark.parametrize(
    "case",
    [
        Case("lora", strategy=FSDP),
        Case("dora", strategy=FSDP),
        Case("full", strategy=FSDP),
        Case("lora", dtype=torch.bfloat16, strategy=FSDP),
        Case("lora", recompute=True, strategy=FSDP),
        Case("lora", silent_row=7, strategy=FSDP),
        Case("full", strategy=FsdpStrategy(type="fsdp", offload="cpu")),
        Case(preference="orpo", strategy=FSDP),
    ],
    ids=str,
)
def test_two_ranks_make_the_steps_of_one(case: Case) -> None:
    (one,) = in_ranks(train, 1, case)
    first, second = in_ranks(train, 2, case)
    assert_same(first, one, rel=1e-4 if case.dtype == torch.float32 else 1e-2)
    assert_equal(first, second)


def what_is_whole(ranks: Ranks, case: Case) -> list[str]:
    trainer = Trainer(case, ranks)
    return [
        name for name, value in trainer.method.trainable.items() if not isinstance(value, DTensor)
    ]


def test_no_rank_keeps_whole_weights_that_are_trained() -> None:
    first, second = in_ranks(what_is_whole, 2, Case("full", strategy=FSDP))
    assert first == second == []


@pytest.mark.parametrize(
    ("method", "strategy"), [("dora", FSDP), ("full", FSDP), ("full", IN_PARTS)], ids=str
)
def test_resuming_equals_never_stopping(
    method: str, strategy: FsdpStrategy, tmp_path: Path
) -> None:
    case = Case(method, strategy=strategy)
    whole, _ = in_ranks(train, 2, case)
    in_ranks(halt, 2, case, tmp_path, 1)
    again, _ = in_ranks(resume, 2, case, tmp_path)
    assert again.losses == whole.losses[1:]
    assert all((again.values[name] == value).all() for name, value in whole.values.items())


@pytest.mark.parametrize(
    ("before", "kept", "after", "strategy"),
    [
        (2, FSDP, 1, FSDP),
        (2, FSDP, 3, FSDP),
        (3, FSDP, 2, DdpStrategy()),
        (2, IN_PARTS, 1, FSDP),
        (3, IN_PARTS, 2, FSDP),
        (2, IN_PARTS, 2, DdpStrategy()),
    ],
    ids=str,
)
def test_other_ranks_and_another_strategy_go_on_the_same(
    before: int, kept: FsdpStrategy, after: int, strategy: StrategyPart, tmp_path: Path
) -> None:
    (whole,) = in_ranks(train, 1, Case("full"))
    in_ranks(halt, before, Case("full", strategy=kept), tmp_path, 2)
    again, *_ = in_ranks(resume, after, Case("full", strategy=strategy), tmp_path)
    assert again.losses == pytest.approx(whole.losses[2:], rel=1e-4)
    for name, value in whole.values.items():
        assert again.values[name] == pytest.approx(value, abs=1e-3), name
