"""One optimizer step: count, forward and backward of every micro-batch, clip, step.

The denominator is the objective's (for cross-entropy the weight of all supervised tokens of the
step), counted before the first backward: 8 micro-batches of one row and one of 8 rows give the same
gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from tunesmith.core.errors import Fault, RunError
from tunesmith.core.out_of_memory import is_out_of_memory, let_go
from tunesmith.data.collate import Batch
from tunesmith.methods.base import AppliedMethod, RemembersSteps
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective, StepObjective, TokenObjective
from tunesmith.training.optimizer import RATE_FACTOR

MAX_ROWS_IN_MESSAGE = 8
TOKENS = TokenObjective()


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

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.row_ids = batch.row_ids
        self.num_rows, self.longest = batch.tokens_BT.shape


def train_step(
    model: LanguageModel,
    method: AppliedMethod,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    learning_rate: float,
    max_gradient_norm: float,
    objective: Objective = TOKENS,
) -> StepOutcome:
    """Make one update from the micro-batches; rows without a supervised token add nothing.

    Raises:
        RunError: loss or gradient are not finite; nothing has been updated then.
        MicroBatchTooLarge: memory ran out; nothing has been updated then, but gradients may be
            there.
    """
    step = objective.begin_step(model, batches)
    weight = step.denominator
    total = sum(_accumulate(step, batch) for batch in batches) if weight else 0.0
    if weight and isinstance(method, RemembersSteps):
        method.add_gradients()
    parameters = list(method.trainable.values())
    norm = float(nn.utils.clip_grad_norm_(parameters, max_gradient_norm)) if weight else 0.0
    if not math.isfinite(norm):
        raise _not_finite("the gradient's norm", norm, batches)
    if weight:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get(RATE_FACTOR, 1.0)
        optimizer.step()
        method.publish()
        optimizer.zero_grad(set_to_none=True)
    return StepOutcome(
        loss=total / weight if weight else 0.0,
        gradient_norm=norm,
        supervised_tokens=sum(int((batch.weights_BT > 0).sum()) for batch in batches),
        tokens=sum(int(batch.lengths_B.sum()) for batch in batches),
        measures=step.measures() if weight else {},
    )


def _accumulate(step: StepObjective, batch: Batch) -> float:
    """Add the micro-batch's part of the step's gradient; returns its summed loss."""
    try:
        loss = step.summed(batch)
        total = float(loss.detach())
        if not math.isfinite(total):
            raise _not_finite("the loss", total, [batch])
        (loss / step.denominator).backward()
        return total
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        let_go(error)
    raise MicroBatchTooLarge(batch)  # outside, so that it holds nothing of what filled memory


def _not_finite(what: str, value: float, batches: Sequence[Batch]) -> RunError:
    rows = [row for batch in batches for row in batch.row_ids]
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
