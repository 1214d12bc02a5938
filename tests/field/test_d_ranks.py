"""Field cases (d): several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.rank_training import Case, Trainer, assert_same, halt, resume, train
from tests.fakes.ranks import in_ranks
from tunesmith.data.pack import StepPlan
from tunesmith.recipe.strategy import DdpStrategy, FsdpStrategy
from tunesmith.training.strategies.ranks import Ranks

FSDP = FsdpStrategy(type="fsdp")
FIVE_ROWS = tuple(
    StepPlan(step, step / 3, groups)
    for step, groups in enumerate([((0,), (1,)), ((2,), (3,)), ((4,),)], 1)
)
ONE_ROW = (StepPlan(1, 1.0, ((3,),)),)


def train_plan(ranks: Ranks, case: Case, plan: tuple[StepPlan, ...]) -> list[Any]:
    trainer = Trainer(case, ranks)
    trainer.plan = plan
    return [(one.outcome.loss, one.outcome.tokens) for one in trainer.train()]


@pytest.mark.parametrize("strategy", [DdpStrategy(), FSDP], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("plan", [FIVE_ROWS, ONE_ROW], ids=["five-rows", "one-row"])
def test_b077_ranks_with_different_numbers_of_batches_do_not_wait_for_ever(
    strategy: DdpStrategy | FsdpStrategy, plan: tuple[StepPlan, ...]
) -> None:
    case = Case(strategy=strategy)
    (one,) = in_ranks(train_plan, 1, case, plan)
    first, second = in_ranks(train_plan, 2, case, plan)
    assert first == second
    assert [tokens for _, tokens in first] == [tokens for _, tokens in one]
    assert [loss for loss, _ in first] == pytest.approx([loss for loss, _ in one], rel=1e-4)


def kept(ranks: Ranks, case: Case) -> dict[str, Any]:
    """Give each rank's part its own value, keep them, take them away, and put them back."""
    trainer = Trainer(case, ranks)
    for value in trainer.strategy.trained.values():  # pyright: ignore[reportAttributeAccessIssue]
        value.data.to_local().fill_(1.0 + ranks.place.rank)
    training = trainer.strategy.state(trainer.method, trainer.optimizer)
    training = type(training)(**ranks.share(vars(training)))
    for value in trainer.strategy.trained.values():  # pyright: ignore[reportAttributeAccessIssue]
        value.data.to_local().zero_()
    trainer.strategy.put_back(training, trainer.method, trainer.optimizer)
    own = [one.data.to_local() for one in trainer.strategy.trained.values()]  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "values": sum(value.numel() for value in training.trained.values()),
        "kinds": {float(one) for value in training.trained.values() for one in value.unique()},
        "own": {float(one) for value in own for one in value.unique()},
    }


def test_b076_a_checkpoint_of_parts_holds_every_ranks_part() -> None:
    first, second = in_ranks(kept, 2, Case(strategy=FSDP))
    (whole,) = in_ranks(train, 1, Case())
    assert first["values"] == sum(value.size for value in whole.values.values())
    assert first["kinds"] == second["kinds"] == {1.0, 2.0}
    assert (first["own"], second["own"]) == ({1.0}, {2.0})


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_b080_another_number_of_ranks_resumes(before: int, after: int, tmp_path: Path) -> None:
    (whole,) = in_ranks(train, 1, Case(strategy=FSDP))
    in_ranks(halt, before, Case(strategy=FSDP), tmp_path, 2)
    again, *_ = in_ranks(resume, after, Case(strategy=FSDP), tmp_path)
    assert again.losses == pytest.approx(whole.losses[2:], rel=1e-4)


@pytest.mark.parametrize("strategy", [DdpStrategy(), FSDP], ids=["ddp", "fsdp"])
def test_b085_layers_are_computed_again_over_several_ranks(
    strategy: DdpStrategy | FsdpStrategy,
) -> None:
    (without,) = in_ranks(train, 1, Case())
    first, _ = in_ranks(train, 2, Case(recompute=True, strategy=strategy))
    assert_same(first, without)
