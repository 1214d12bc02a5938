"""Invariant 1 for several ranks: they make the steps that one rank makes, to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.rank_training import (
    Case,
    Trainer,
    assert_equal,
    assert_same,
    halt,
    resume,
    train,
)
from tests.fakes.ranks import in_ranks
from tunesmith.core.errors import RunError
from tunesmith.training.strategies.ranks import Ranks


@pytest.mark.parametrize(
    "case",
    [
        Case("lora"),
        Case("dora"),
        Case("full"),
        Case("full", dtype=torch.bfloat16),
        Case("lora", base="nf4"),
        Case("adalora"),
        Case("ia3"),
        Case("lora", head="classes"),
        Case("full", head="tags"),
    ],
    ids=str,
)
def test_two_ranks_make_the_steps_of_one(case: Case) -> None:
    (one,) = in_ranks(train, 1, case)
    first, second = in_ranks(train, 2, case)
    # Each update of AdamW is as long for a rounded gradient as for another: values may differ.
    assert_same(first, one, rel=1e-4 if case.dtype == torch.float32 else 1e-2)
    assert_equal(first, second)


def test_four_ranks_make_the_steps_of_one() -> None:
    (one,) = in_ranks(train, 1, Case())
    first, *others = in_ranks(train, 4, Case())
    assert_same(first, one)
    for other in others:
        assert_equal(first, other)


@pytest.mark.parametrize("loss", ["dpo", "orpo", "kto"])
def test_preferences_are_compared_over_all_ranks(loss: str) -> None:
    (one,) = in_ranks(train, 1, Case(preference=loss))
    first, second = in_ranks(train, 2, Case(preference=loss))
    assert one.measures[0]
    assert_same(first, one)
    assert_equal(first, second)


def test_dropout_does_not_depend_on_the_number_of_ranks() -> None:
    two, _ = in_ranks(train, 2, Case(dropout=0.3))
    four, *_ = in_ranks(train, 4, Case(dropout=0.3))
    (without,) = in_ranks(train, 1, Case())
    assert_same(four, two)
    assert two.losses[-1] != pytest.approx(without.losses[-1], rel=1e-3)


def test_resuming_two_ranks_equals_never_stopping(tmp_path: Path) -> None:
    case = Case("dora", dropout=0.2)
    whole, _ = in_ranks(train, 2, case)
    in_ranks(halt, 2, case, tmp_path, 1)
    again, _ = in_ranks(resume, 2, case, tmp_path)
    assert again.losses == whole.losses[1:]
    assert all((again.values[name] == value).all() for name, value in whole.values.items())


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)])
def test_another_number_of_ranks_goes_on_the_same(before: int, after: int, tmp_path: Path) -> None:
    (whole,) = in_ranks(train, 1, Case())
    in_ranks(halt, before, Case(), tmp_path, 2)
    again, *_ = in_ranks(resume, after, Case(), tmp_path)
    assert again.losses == pytest.approx(whole.losses[2:], rel=1e-4)


def fail_on_one(ranks: Ranks, size_in_tokens: int) -> tuple[list[float], list[str]]:
    """Memory runs out on rank 1 only, at micro-batches of more than so many tokens."""
    import tunesmith.training.objective as objective_module

    original = objective_module.summed_loss

    def summed_loss(model: Any, batch: Any) -> Any:
        if ranks.place.rank == 1 and batch.tokens_BT.numel() > size_in_tokens:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return original(model, batch)

    objective_module.summed_loss = summed_loss
    done = Trainer(Case(), ranks).train(last_step=1)
    return [one.outcome.loss for one in done], [text for one in done for text in one.warnings]


def test_memory_that_runs_out_on_one_rank_halves_the_micro_batches_of_all() -> None:
    (one,) = in_ranks(train, 1, Case())
    (first, warned), (second, warned_too) = in_ranks(fail_on_one, 2, 50)
    assert warned == warned_too
    assert "memory ran out at a micro-batch of 2 rows" in warned[0]
    assert first == second == pytest.approx(one.losses[:1], rel=1e-4)


def not_finite_on_one(ranks: Ranks) -> tuple[str, str]:
    trainer = Trainer(Case(), ranks)
    if ranks.place.rank == 1:
        with torch.no_grad():
            next(iter(trainer.method.trainable.values())).fill_(float("nan"))
    with pytest.raises(RunError) as error:
        trainer.train(last_step=1)
    return error.value.code, error.value.faults[0].where


def test_a_loss_that_is_not_finite_on_one_rank_is_every_ranks_error() -> None:
    first, second = in_ranks(not_finite_on_one, 2)
    assert first == second
    code, where = first
    assert code == "not_finite"
    assert where.startswith("step 1, rows rows:")


def exchange(ranks: Ranks) -> dict[str, Any]:
    own = torch.arange(ranks.place.rank * 2, dtype=torch.float64) + 10 * ranks.place.rank
    return {
        "gathered": ranks.gathered(own).tolist(),
        "shared": ranks.share(f"from {ranks.place.rank}"),
        "everybody": ranks.everybody(ranks.place.rank),
        "sums": ranks.sums([1.0, ranks.place.rank]),
    }


def test_ranks_tell_each_other_what_they_have() -> None:
    found = in_ranks(exchange, 3)
    assert found[0] == found[1] == found[2]
    assert found[0]["gathered"] == [10.0, 11.0, 20.0, 21.0, 22.0, 23.0]
    assert (found[0]["shared"], found[0]["everybody"]) == ("from 0", [0, 1, 2])
    assert found[0]["sums"] == [3.0, 3.0]
