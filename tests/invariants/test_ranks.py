"""Invariant 1 for several ranks: they make the steps that one rank makes, to rounding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.ranks import in_ranks
from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tests.fakes.tiny_preference import is_rejected, make_pairs
from tunesmith.core.errors import RunError
from tunesmith.data.mismatch import Mismatched
from tunesmith.data.pack import StepPlan
from tunesmith.methods.base import AppliedMethod, RemembersSteps
from tunesmith.methods.select import apply_method
from tunesmith.models.quantise import quantise_model
from tunesmith.recipe.method import FullMethod, LoraMethod, Method
from tunesmith.recipe.peft_method import PeftMethod
from tunesmith.recipe.task import PreferenceTask
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.checkpoint import (
    Progress,
    find_newest,
    read_checkpoint,
    write_checkpoint,
)
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.objective import Objective, TokenObjective
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.preference import PairObjective, RatedObjective, References
from tunesmith.training.row_loss import log_probs_of
from tunesmith.training.strategies.base import Strategy
from tunesmith.training.strategies.ddp import DataParallel
from tunesmith.training.strategies.ranks import Ranks
from tunesmith.training.strategies.single import Single

RATE = 1e-2
LENGTHS = [5, 9, 40, 12, 33, 7, 150, 21, 18, 26]
# Five micro-batches, then one (a second rank has nothing to do), then two of very unequal size.
PLAN = (
    StepPlan(1, 0.3, ((2, 4), (3, 9), (7,), (1,), (0,))),
    StepPlan(2, 0.6, ((5, 8),)),
    StepPlan(3, 0.9, ((6,), (0, 1))),
)
METHODS: dict[str, Method] = {
    "lora": LoraMethod(rank=4),
    "dora": LoraMethod(type="dora", rank=4),
    "full": FullMethod(),
    "ia3": PeftMethod(type="ia3"),
    "adalora": PeftMethod(type="adalora", rank=4),
}


@dataclass(frozen=True)
class Case:
    """What is trained. `dtype` and `base` are the model's; `micro_batch_limit` as in a run."""

    method: str = "lora"
    dtype: torch.dtype = torch.float32
    base: str | None = None
    dropout: float = 0.0
    preference: str | None = None
    micro_batch_limit: int | None = None


@dataclass(eq=False)
class Trainer:
    """A tiny model with a method, and the strategy of these ranks."""

    case: Case
    ranks: Ranks

    def __post_init__(self) -> None:
        self.model = make_llama(dtype=self.case.dtype)
        if self.case.base:
            quantise_model(
                self.model,
                [self.model.lm_head],
                self.case.base,  # pyright: ignore[reportArgumentType]
                double_quant=True,
                dtype=self.case.dtype,
            )
        part = METHODS[self.case.method]
        if self.case.dropout:
            part = part.model_copy(update={"dropout": self.case.dropout})
        self.method: AppliedMethod = apply_method(self.model, part, seed=0, steps=len(PLAN))
        self.part = TrainingPart(learning_rate=RATE, schedule="constant", warmup=0)
        self.optimizer = make_optimizer(self.method.trainable, self.part, learning_rate=RATE)
        self.strategy: Strategy = (
            Single() if self.ranks.size == 1 else DataParallel(self.ranks, random_seed=0)
        )
        self.strategy.begin(self.method, self.optimizer)

    def train(self, *, first_step: int = 1, last_step: int = len(PLAN)) -> list[StepDone]:
        examples, plan, objective = make_examples(LENGTHS), PLAN, TokenObjective()
        scored = language_model(self.model, share_prefix=not self.case.dropout)
        if self.case.preference:
            examples = make_pairs([(9, 14), (40, 12), (33, 21), (150, 60), (11, 8)])
            plan = (StepPlan(1, 0.4, ((6, 7), (4, 5, 2, 3), (0, 1))), StepPlan(2, 1, ((8, 9),)))
            objective = preference(self.case.preference, scored, examples)
        return list(
            train_steps(
                scored,
                self.method,
                self.optimizer,
                examples,
                plan[:last_step],
                self.part,
                peak_rate=RATE,
                pad_id=0,
                first_step=first_step,
                objective=objective,
                micro_batch_limit=self.case.micro_batch_limit,
                strategy=self.strategy,
            )
        )

    def values(self) -> dict[str, Any]:
        """What was trained; as arrays, which go from process to process by value."""
        return {name: value.detach().numpy() for name, value in self.method.trainable.items()}


def preference(loss: str, scored: Any, examples: Any) -> Objective:
    task = PreferenceTask(type="preference", loss=loss)  # pyright: ignore[reportArgumentType]
    groups = [range(len(examples))]
    own = log_probs_of(scored, examples, groups, pad_id=0) - 1.0  # another model's, as it were
    if loss != "kto":
        return PairObjective(task, References(own))
    mismatched = Mismatched(examples, 256)
    other = log_probs_of(scored, mismatched, groups, pad_id=0) - 0.5
    return RatedObjective(task, is_rejected(examples), References(own, other), mismatched, pad_id=0)


@dataclass(frozen=True)
class Trained:
    """What a rank found."""

    losses: list[float]
    norms: list[float]
    tokens: list[tuple[int, int]]
    measures: list[dict[str, float]]
    values: dict[str, Any]


def train(ranks: Ranks, case: Case) -> Trained:
    trainer = Trainer(case, ranks)
    outcomes = [done.outcome for done in trainer.train()]
    return Trained(
        losses=[one.loss for one in outcomes],
        norms=[one.gradient_norm for one in outcomes],
        tokens=[(one.tokens, one.supervised_tokens) for one in outcomes],
        measures=[dict(one.measures) for one in outcomes],
        values=trainer.values(),
    )


def assert_same(found: Trained, one: Trained, *, rel: float = 1e-4) -> None:
    assert found.tokens == one.tokens
    assert found.losses == pytest.approx(one.losses, rel=rel)
    assert found.norms == pytest.approx(one.norms, rel=10 * rel)
    for ours, theirs in zip(found.measures, one.measures, strict=True):
        assert ours == pytest.approx(theirs, rel=10 * rel, abs=1e-5)
    assert found.values.keys() == one.values.keys()
    for name, value in one.values.items():
        assert found.values[name] == pytest.approx(value, rel=10 * rel, abs=1e-3), name


def assert_equal(left: Trained, right: Trained) -> None:
    """To the last bit."""
    assert left.losses == right.losses
    assert all((left.values[name] == value).all() for name, value in right.values.items())


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


def halt(ranks: Ranks, case: Case, folder: Path, after: int) -> None:
    trainer = Trainer(case, ranks)
    trainer.train(last_step=after)
    training = trainer.strategy.state(trainer.method, trainer.optimizer)
    remembered = trainer.method.state if isinstance(trainer.method, RemembersSteps) else None
    if ranks.is_main:
        write_checkpoint(folder, Progress(step=after), training, remembered)
    ranks.wait()


def resume(ranks: Ranks, case: Case, folder: Path) -> Trained:
    trainer = Trainer(case, ranks)
    newest = find_newest(folder)
    assert newest is not None
    progress, training = read_checkpoint(newest, trainer.method.trainable)
    trainer.strategy.put_back(training, trainer.method, trainer.optimizer)
    trainer.method.publish()
    done = trainer.train(first_step=progress.step + 1)
    return Trained([one.outcome.loss for one in done], [], [], [], trainer.values())


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
