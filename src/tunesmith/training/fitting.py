"""A step that fits into memory: where memory runs out, it is made again in smaller micro-batches.

    planned    | r1 r2 r3 r4 | r5 r6 |      memory runs out at 4 rows x 100 tokens
    again      | r1 r2 | r3 r4 | r5 r6 |    at most 200 tokens at once, from here on

The rows of the step and its denominator stay, so its numbers are the same up to rounding. Nothing
was updated: gradients of the first attempt are dropped, and the random state is put back. Dropout
then draws the same numbers, but for other places, as with any other size of micro-batch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from tunesmith.core.errors import Fault, RunError
from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.pack import MicroBatch, group_by_length
from tunesmith.data.render import Example
from tunesmith.methods.base import AppliedMethod
from tunesmith.models.device import give_back_unused, put_back_random_state, random_state
from tunesmith.models.linear import device_of
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective
from tunesmith.training.step import SINGLE, TOKENS, MicroBatchTooLarge, StepOutcome, train_step
from tunesmith.training.strategies.base import Share, Strategy

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FittedStep:
    """`limit` is the largest micro-batch that memory allows (tokens with padding), once known."""

    outcome: StepOutcome
    limit: int | None
    warnings: tuple[str, ...]


def step_that_fits(
    model: LanguageModel,
    method: AppliedMethod,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    planned: Sequence[MicroBatch],
    *,
    limit: int | None,
    pad_id: int,
    learning_rate: float,
    max_gradient_norm: float,
    objective: Objective = TOKENS,
    strategy: Strategy = SINGLE,
    number: int = 0,
) -> FittedStep:
    """Make one update, in micro-batches that are halved until they fit; `number` is the step's.

    Raises:
        RunError: a row does not fit by itself, or loss or gradient are not finite.
    """
    random = random_state()
    warnings: list[str] = []
    while True:
        groups = split(planned, examples, limit, rows_together=objective.rows_together)
        shares = strategy.shares(groups, partial(_padded, examples))
        own = [share for share in shares if share.counts]
        fillers = [share for share in shares if not share.counts]
        try:
            outcome = train_step(
                model,
                method,
                optimizer,
                [_batch(share, examples, pad_id) for share in own],
                learning_rate=learning_rate,
                max_gradient_norm=max_gradient_norm,
                objective=objective,
                strategy=strategy,
                seeds=[strategy.seed(number, share.index) for share in own],
                fillers=[_batch(share, examples, pad_id) for share in fillers],
            )
            return FittedStep(outcome=outcome, limit=limit, warnings=tuple(warnings))
        except MicroBatchTooLarge as failed:
            row_ids, num_rows, longest = failed.row_ids, failed.num_rows, failed.longest
        _drop_gradients(model, method)
        give_back_unused(device_of(model.decoder))
        if not strategy.can_repeat:
            raise RunError(_too_large(row_ids[0], num_rows, longest), code="out_of_memory")
        if num_rows <= objective.rows_together:
            raise RunError(_one_row(row_ids[0], longest), code="out_of_memory")
        put_back_random_state(random)
        limit = num_rows // 2 * longest
        warnings.append(
            f"memory ran out at a micro-batch of {num_rows} rows x {longest:,} tokens; going on "
            f"with half: {limit:,} tokens at once, the same rows a step"
        )
        log.warning("%s", warnings[-1])


def _batch(share: Share, examples: Sequence[Example], pad_id: int) -> Batch:
    return to_batch([examples[row] for row in share.rows], pad_id, share.rows)


def _padded(examples: Sequence[Example], rows: MicroBatch) -> int:
    return len(rows) * max(len(examples[row].tokens) for row in rows)


def split(
    planned: Sequence[MicroBatch],
    examples: Sequence[Example],
    limit: int | None,
    *,
    rows_together: int = 1,
) -> list[MicroBatch]:
    """Cut micro-batches into ones of at most `limit` tokens with padding; a longer row is alone.

    So many rows that follow one another stay in one micro-batch: the two answers of a pair.
    """
    if limit is None:
        return list(planned)
    parts: list[MicroBatch] = []
    for group in planned:
        units = [group[i : i + rows_together] for i in range(0, len(group), rows_together)]
        padded = [_padded(examples, unit) for unit in units]
        for part in group_by_length(range(len(units)), padded, limit):
            parts.append(tuple(row for index in part for row in units[index]))
    return parts


def _drop_gradients(model: LanguageModel, method: AppliedMethod) -> None:
    # The model's weights have one, too, where the failure came between a 16-bit gradient and its
    # addition to the fp32 master's.
    for parameters in (method.trainable.values(), model.decoder.parameters()):
        for parameter in parameters:
            parameter.grad = None
    for parameter in model.head.parameters():
        parameter.grad = None


def _too_large(row_id: str, num_rows: int, longest: int) -> Fault:
    return Fault(
        found=f"memory ran out at a micro-batch of {num_rows} rows x {longest:,} tokens",
        where=f"row {row_id} and others",
        fix="lower training.micro_batch_tokens, then resume from the last checkpoint; with this "
        "strategy a step cannot be made again in smaller ones",
    )


def _one_row(row_id: str, longest: int) -> Fault:
    return Fault(
        found=f"memory ran out at one row of {longest:,} tokens",
        where=f"row {row_id}",
        fix="set training.activation_checkpointing: true or a shorter data.max_length; or take "
        "method: qlora or a smaller model",
    )
