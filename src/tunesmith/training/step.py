"""One optimizer step: count, forward and backward of every micro-batch, clip, step.

The denominator is the objective's (for cross-entropy the weight of all supervised tokens of the
step, on all ranks), counted before the first backward: 8 micro-batches of one row and one of 8 rows
give the same gradient, on one rank or on several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from tunesmith.core.errors import Fault, RunError
from tunesmith.core.out_of_memory import is_out_of_memory, let_go
from tunesmith.data.collate import Batch
from tunesmith.methods.base import AppliedMethod
from tunesmith.models.device import repeatable
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective, StepObjective, TokenObjective
from tunesmith.training.optimizer import RATE_FACTOR
from tunesmith.training.strategies.base import Strategy
from tunesmith.training.strategies.single import Single

MAX_ROWS_IN_MESSAGE = 8
TOKENS = TokenObjective()
SINGLE = Single()


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    """`loss` is the objective's mean over the step before the update, of tokens in nats.

    `measures` are what else the objective tells of the step, by name.
    """

    loss: float
    gradient_norm: float
    supervised_tokens: int
    tokens: int
    measures: Mapping[str, float] = field(default_factory=dict[str, float])


class MicroBatchTooLarge(Exception):
    """Memory ran out while a micro-batch was computed."""

    def __init__(self, row_ids: tuple[str, ...], num_rows: int, longest: int) -> None:
        super().__init__(row_ids, num_rows, longest)  # so that it can go from rank to rank
        self.row_ids = row_ids
        self.num_rows, self.longest = num_rows, longest


def train_step(
    model: LanguageModel,
    method: AppliedMethod,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    learning_rate: float,
    max_gradient_norm: float,
    objective: Objective = TOKENS,
    strategy: Strategy = SINGLE,
    seeds: Sequence[int | None] = (),
    fillers: Sequence[Batch] = (),
) -> StepOutcome:
    """Make one update from the micro-batches; rows without a supervised token add nothing.

    Of several ranks `batches` are this one's; `seeds` are what dropout in each is drawn from, and
    `fillers` are computed to keep in step with the others, and add nothing.

    Raises:
        RunError: loss or gradient are not finite; nothing has been updated then.
        MicroBatchTooLarge: memory ran out; nothing has been updated then, but gradients may be
            there.
    """
    ranks = strategy.ranks
    ranks.beat("counting")
    step = objective.begin_step(model, batches, ranks)
    weight, norm, own = step.denominator, 0.0, 0.0
    if weight:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get(RATE_FACTOR, 1.0)
        work = _Work(strategy, step, num_backward=len(batches) + len(fillers))
        own = _all_of(work, batches, seeds)
        _fill(work, model, objective, fillers)
        norm = strategy.update(method, optimizer, max_gradient_norm=max_gradient_norm)
    if not math.isfinite(norm):
        rows = [row for one in ranks.everybody(_rows_of(batches)) for row in one]
        raise _not_finite("the gradient's norm", norm, rows)
    total, supervised, tokens = ranks.sums(
        [
            own,
            sum(int((batch.weights_BT > 0).sum()) for batch in batches),
            sum(int(batch.lengths_B.sum()) for batch in batches),
        ]
    )
    return StepOutcome(
        loss=total / weight if weight else 0.0,
        gradient_norm=norm,
        supervised_tokens=int(supervised),
        tokens=int(tokens),
        measures=step.measures() if weight else {},
    )


@dataclass
class _Work:
    """What the micro-batches of a step are computed with; `num_done` counts backward passes."""

    strategy: Strategy
    step: StepObjective
    num_backward: int
    num_done: int = 0

    def backward(self, loss: Tensor) -> None:
        self.num_done += 1
        with repeatable(loss.device):
            self.strategy.backward(loss, is_last=self.num_done == self.num_backward)


def _all_of(work: _Work, batches: Sequence[Batch], seeds: Sequence[int | None]) -> float:
    """Compute this rank's micro-batches; where one fails on any rank, all ranks raise its error."""
    ranks = work.strategy.ranks
    total, failed = 0.0, None
    try:
        for index, batch in enumerate(batches):
            ranks.beat(f"computing micro-batch {index + 1} of {len(batches)}")
            if seeds and (seed := seeds[index]) is not None:
                torch.manual_seed(seed)
            total += _accumulate(work, batch)
    except (MicroBatchTooLarge, RunError) as error:
        if not work.strategy.can_repeat:  # the others are in the middle of their passes
            raise
        failed = error
    if work.strategy.can_repeat:
        ranks.raise_first(failed)
    return total


def _accumulate(work: _Work, batch: Batch) -> float:
    """Add the micro-batch's part of the step's gradient; returns its summed loss."""
    step = work.step
    try:
        loss = _loss(work.strategy, step, batch)
        total = float(loss.detach())
        if not math.isfinite(total):
            raise _not_finite("the loss", total, _rows_of([batch]))
        work.backward(loss / step.denominator)
        return total
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        let_go(error)
    # outside, so that it holds nothing of what filled memory
    raise MicroBatchTooLarge(batch.row_ids, *batch.tokens_BT.shape)


def _fill(
    work: _Work, model: LanguageModel, objective: Objective, fillers: Sequence[Batch]
) -> None:
    """Compute what adds nothing, apart from the step's objective, which counts what it sees."""
    for batch in fillers:
        work.strategy.ranks.beat("computing a filler")
        alone = objective.begin_step(model, [batch])
        work.backward(0.0 * _loss(work.strategy, alone, batch))


def _loss(strategy: Strategy, step: StepObjective, batch: Batch) -> Tensor:
    """Compute the sum. Without supervised tokens there is none, save where all ranks pass alike."""
    if strategy.can_repeat or bool((batch.weights_BT > 0).any()):
        return strategy.compute(partial(step.summed, batch))
    weights_BT = torch.zeros_like(batch.weights_BT)
    weights_BT[:, 0] = 1.0
    stand_in = replace(batch, weights_BT=weights_BT)
    return 0.0 * strategy.compute(partial(step.summed, stand_in))


def _rows_of(batches: Sequence[Batch]) -> list[str]:
    return [row for batch in batches for row in batch.row_ids]


def _not_finite(what: str, value: float, rows: Sequence[str]) -> RunError:
    named = ", ".join(rows[:MAX_ROWS_IN_MESSAGE])
    if len(rows) > MAX_ROWS_IN_MESSAGE:
        named += f" and {len(rows) - MAX_ROWS_IN_MESSAGE} more"
    fault = Fault(
        found=f"{what} is {value}",
        where=f"rows {named}",
        fix="look at these rows with `tunesmith data show`; lower training.learning_rate, "
        "then resume from the last checkpoint",
    )
    return RunError(fault, code="not_finite")
