"""The loss on rows that are never trained: sums over all of them, divided once.

Rows of similar length share a batch of bounded size; that changes no row's loss, only the speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith.core.errors import Fault, RunError
from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.render import Example
from tunesmith.inference.grouping import group_by_length
from tunesmith.training.loss import SummedLoss

BATCH_TOKENS = 2048


@dataclass(frozen=True)
class HeldOut:
    """Sums over the supervised tokens; `correct` counts those that were the likeliest."""

    loss_sum: float
    weight: float
    tokens: int
    correct: int
    rows: int

    @property
    def loss(self) -> float:
        """Nats a supervised token."""
        return self.loss_sum / self.weight

    @property
    def perplexity(self) -> float:
        """Between how many equally likely tokens the model seems to choose."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def token_accuracy(self) -> float:
        """The share of supervised tokens that were the likeliest."""
        return self.correct / self.tokens


def held_out_loss(
    loss_of: Callable[[Batch], SummedLoss],
    examples: Sequence[Example],
    *,
    pad_id: int = 0,
    max_tokens: int = BATCH_TOKENS,
) -> HeldOut:
    """Evaluate all rows. The caller sees to it that gradients and dropout are off.

    Raises:
        RunError: a loss is not finite.
    """
    assert examples, "the caller knows whether there are held-out rows"
    loss_sum, weight, tokens, correct = 0.0, 0.0, 0, 0
    lengths = [len(example.tokens) for example in examples]
    for group in group_by_length(lengths, max_tokens=max_tokens):
        batch = to_batch([examples[index] for index in group], pad_id)
        one = loss_of(batch)
        total = one.total.item()
        if not math.isfinite(total):
            raise RunError(_not_finite(total, batch), code="loss_not_finite")
        loss_sum += total
        weight += one.weight
        tokens += one.tokens
        correct += one.correct
    return HeldOut(loss_sum, weight, tokens, correct, len(examples))


def _not_finite(total: float, batch: Batch) -> Fault:
    return Fault(
        found=f"a held-out loss of {total}",
        where="rows " + ", ".join(batch.row_ids[:10]),
        fix="lower training.learning_rate; if it was so before training, use another base model "
        "or model.dtype: fp32",
    )
