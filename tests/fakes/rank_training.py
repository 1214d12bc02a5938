"""A few steps of a tiny model by one rank or several, and what they found, to be compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.tiny_headed import make_headed, make_labelled
from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tests.fakes.tiny_preference import is_rejected, make_pairs
from tunesmith.data.mismatch import Mismatched
from tunesmith.data.pack import StepPlan
from tunesmith.methods.base import AppliedMethod, RemembersSteps
from tunesmith.methods.headed_method import apply_headed
from tunesmith.methods.select import apply_method
from tunesmith.models.quantise import quantise_model
from tunesmith.recipe.method import FullMethod, LoraMethod, Method
from tunesmith.recipe.peft_method import PeftMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import DdpStrategy, SingleStrategy, has_own_masters
from tunesmith.recipe.strategy import Strategy as StrategyPart
from tunesmith.recipe.task import PreferenceTask
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.checkpoint import (
    Progress,
    begin_parts,
    find_newest,
    read_checkpoint,
    write_checkpoint,
    write_parts,
)
from tunesmith.training.complete import shapes_of
from tunesmith.training.head_objective import HeadObjective
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective, TokenObjective
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.preference import PairObjective, RatedObjective, References
from tunesmith.training.row_loss import log_probs_of
from tunesmith.training.strategies.deepspeed import Zero
from tunesmith.training.strategies.fsdp import FullyCut
from tunesmith.training.strategies.ranks import Ranks
from tunesmith.training.strategies.start import make_strategy

DDP = DdpStrategy()
RATE = 1e-2
LENGTHS = [5, 9, 40, 12, 33, 7, 150, 21, 18, 26]
# Five micro-batches, then one (a second rank has nothing to do), then two of very unequal size.
PLAN = (
    StepPlan(1, 0.3, ((2, 4), (3, 9), (7,), (1,), (0,))),
    StepPlan(2, 0.6, ((5, 8),)),
    StepPlan(3, 0.9, ((6,), (0, 1))),
)
PAIR_LENGTHS = [(9, 14), (40, 12), (33, 21), (150, 60), (11, 8)]
PAIR_PLAN = (
    StepPlan(1, 0.4, ((6, 7), (4, 5, 2, 3), (0, 1))),
    StepPlan(2, 1.0, ((8, 9),)),
)
METHODS: dict[str, Method] = {
    "lora": LoraMethod(rank=4),
    "dora": LoraMethod(type="dora", rank=4),
    "full": FullMethod(),
    "ia3": PeftMethod(type="ia3"),
    "adalora": PeftMethod(type="adalora", rank=4),
}

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """What is trained. `dtype` and `base` are the model's;"""

    method: str = "lora"
    dtype: torch.dtype = torch.float32
    base: str | None = None
    dropout: float = 0.0
    preference: str | None = None
    strategy: StrategyPart = DDP
    recompute: bool = False
    silent_row: int | None = None
    head: str | None = None


@dataclass(eq=False)
class Trainer:
    """A tiny model with a method, and the strategy of these ranks."""

    case: Case
    ranks: Ranks
    device: torch.device = CPU

    def __post_init__(self) -> None:
        headed = make_headed(self.case.head) if self.case.head else None
        self.model: Any = headed.model if headed else make_llama(dtype=self.case.dtype)
        if self.case.base:
            quantise_model(
                self.model,
                [self.model.lm_head],
                self.case.base,  # pyright: ignore[reportArgumentType]
                double_quant=True,
                dtype=self.case.dtype,
            )
        self.model.to(self.device)
        part = METHODS[self.case.method]
        if self.case.dropout:
            part = part.model_copy(update={"dropout": self.case.dropout})
        alone = self.ranks.size == 1
        strategy = SingleStrategy() if alone else self.case.strategy
        masters = not has_own_masters(strategy)
        self.method: AppliedMethod = (
            apply_headed(headed, part, seed=0, steps=len(PLAN))
            if headed
            else apply_method(self.model, part, seed=0, steps=len(PLAN), masters=masters)
        )
        self.part = TrainingPart(learning_rate=RATE, schedule="constant", warmup=0)
        self.optimizer = make_optimizer(self.method.trainable, self.part, learning_rate=RATE)
        recipe = Recipe.model_construct(strategy=strategy, training=self.part)
        self.strategy = make_strategy(recipe, self.ranks)
        if isinstance(self.strategy, Zero) and not self.strategy.settings:
            # the engine's own is 100,000 values, below which it never cuts a weight
            smallest = {"stage3_param_persistence_threshold": 0}
            self.strategy.settings = {"zero_optimization": smallest}
        shares = not self.case.dropout
        self.scored = (
            LanguageModel(decoder=self.model, head=headed.last_layer)
            if headed
            else language_model(self.model, share_prefix=shares, recompute=self.case.recompute)
        )
        self.examples, self.plan = make_examples(LENGTHS), PLAN
        if self.case.silent_row is not None:  # nothing of it is supervised
            row = self.examples[self.case.silent_row]
            self.examples[self.case.silent_row] = replace(row, weights=0 * row.weights)
        self.objective: Objective = TokenObjective()
        if headed and self.case.head:
            self.examples = make_labelled(self.case.head, LENGTHS)
            self.objective = HeadObjective(headed)
        if self.case.preference:  # its reference is the model before the first step
            self.examples, self.plan = make_pairs(PAIR_LENGTHS), PAIR_PLAN
            self.objective = preference(self.case.preference, self.scored, self.examples)
        self.shapes = shapes_of(self.method.trainable)
        self.strategy.begin(self.model, self.scored, self.method, self.optimizer)

    def train(self, *, first_step: int = 1, last_step: int = len(PLAN)) -> list[StepDone]:
        return list(
            train_steps(
                self.scored,
                self.method,
                self.optimizer,
                self.examples,
                self.plan[:last_step],
                self.part,
                peak_rate=RATE,
                pad_id=0,
                first_step=first_step,
                objective=self.objective,
                strategy=self.strategy,
            )
        )

    def values(self) -> dict[str, Any]:
        """What was trained, where it is whole; as arrays, which go by value to another process."""
        with self.strategy.whole():
            trained = self.method.trainable
            if isinstance(self.strategy, Zero) and self.strategy.is_sharded:
                trained = trained if self.ranks.is_main else {}
            if isinstance(self.strategy, FullyCut) and self.case.method == "full":
                trained = dict(self.model.named_parameters())
            return {
                name: value.detach().cpu().clone().float().numpy()
                for name, value in trained.items()
            }


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
    places: set[str] = field(default_factory=set[str])


def train(ranks: Ranks, case: Case, device: torch.device = CPU) -> Trained:
    trainer = Trainer(case, ranks, device)
    outcomes = [done.outcome for done in trainer.train()]
    return Trained(
        losses=[one.loss for one in outcomes],
        norms=[one.gradient_norm for one in outcomes],
        tokens=[(one.tokens, one.supervised_tokens) for one in outcomes],
        measures=[dict(one.measures) for one in outcomes],
        values=trainer.values(),
        places={str(one.device) for one in trainer.model.parameters()},
    )


def assert_same(found: Trained, one: Trained, *, rel: float = 1e-4) -> None:
    assert found.tokens == one.tokens
    assert found.losses == pytest.approx(one.losses, rel=rel)
    assert found.norms == pytest.approx(one.norms, rel=10 * rel)
    for ours, theirs in zip(found.measures, one.measures, strict=True):
        assert ours == pytest.approx(theirs, rel=10 * rel, abs=1e-5)
    assert found.values.keys() == one.values.keys()
    if rel > 1e-4:  # each of AdamW's first updates is as long, whichever way a rounding points
        return
    for name, value in one.values.items():
        assert found.values[name] == pytest.approx(value, rel=10 * rel, abs=1e-3), name


def assert_equal(left: Trained, right: Trained) -> None:
    """To the last bit; with ZeRO 3 there are values on the first rank only."""
    assert left.losses == right.losses
    assert all((left.values[name] == value).all() for name, value in right.values.items())


def halt(ranks: Ranks, case: Case, folder: Path, after: int, device: torch.device = CPU) -> None:
    trainer = Trainer(case, ranks, device)
    trainer.train(last_step=after)
    training = trainer.strategy.state(trainer.method, trainer.optimizer)
    remembered = trainer.method.state if isinstance(trainer.method, RemembersSteps) else None
    parts = None
    if training.rows is not None:
        parts = ranks.share(begin_parts(folder, after) if ranks.is_main else None)
        assert parts is not None
        write_parts(parts, training, rank=ranks.place.rank, size=ranks.size)
        ranks.wait()
    if ranks.is_main:
        shapes = trainer.shapes
        write_checkpoint(folder, Progress(step=after), training, remembered, shapes, parts)
    ranks.wait()


def resume(ranks: Ranks, case: Case, folder: Path, device: torch.device = CPU) -> Trained:
    trainer = Trainer(case, ranks, device)
    newest = find_newest(folder)
    assert newest is not None
    progress, training = read_checkpoint(newest, trainer.method.trainable)
    trainer.strategy.put_back(training, trainer.method, trainer.optimizer)
    done = trainer.train(first_step=progress.step + 1)
    return Trained([one.outcome.loss for one in done], [], [], [], trainer.values())
