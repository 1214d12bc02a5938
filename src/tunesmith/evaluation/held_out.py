"""The loss on rows that are never trained: sums over all of them, divided once.

Rows of similar length share a batch of bounded size; that changes no row's loss, only the speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunesmith.core.errors import Fault, RunError
from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.render import Example
from tunesmith.data.units import Units
from tunesmith.inference.batches import BATCH_TOKENS, compute_batches
from tunesmith.inference.grouping import group_by_length
from tunesmith.training.loss import LanguageModel, SummedLoss
from tunesmith.training.objective import Objective


@dataclass(frozen=True)
class HeldOut:
    """Sums over the supervised tokens; `correct` counts those that were the likeliest.

    Of preferences the sums are over pairs, or rated answers: `weight` counts them, `correct` is
    None, and `preference` holds what else the objective tells.
    """

    loss_sum: float
    weight: float
    tokens: int
    correct: int | None
    rows: int
    preference: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def loss(self) -> float:
        """Nats a supervised token, or the preference loss a pair."""
        return self.loss_sum / self.weight

    @property
    def perplexity(self) -> float | None:
        """Between how many equally likely tokens the model seems to choose."""
        if self.correct is None:
            return None
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def token_accuracy(self) -> float | None:
        """The share of supervised tokens that were the likeliest."""
        return None if self.correct is None else self.correct / self.tokens


def held_out_loss(
    loss_of: Callable[[Batch], SummedLoss],
    examples: Sequence[Example],
    *,
    pad_id: int = 0,
    max_tokens: int = BATCH_TOKENS,
) -> HeldOut:
    """Evaluate all rows. The caller sees to it that gradients and dropout are off.

    Where memory runs out, the batch is computed in halves, and so are all after it.

    Raises:
        RunError: a loss is not finite, or one row alone does not fit into memory.
    """
    assert examples, "the caller knows whether there are held-out rows"
    loss_sum, weight, tokens, correct = 0.0, 0.0, 0, 0
    groups = group_by_length([len(one.tokens) for one in examples], max_tokens=max_tokens)
    for computed in compute_batches(loss_of, examples, groups, pad_id=pad_id):
        one = computed.value
        loss_sum += require_finite(one.total.item(), computed.batch)
        weight += one.weight
        tokens += one.tokens
        correct += one.correct
    return HeldOut(loss_sum, weight, tokens, correct, len(examples))


def held_out_preference(
    model: LanguageModel,
    objective: Objective,
    units: Units,
    examples: Sequence[Example],
    *,
    pad_id: int = 0,
    max_tokens: int = BATCH_TOKENS,
) -> HeldOut:
    """Evaluate all pairs or rated answers as one step, without an update.

    Raises:
        RunError: a loss is not finite.
    """
    groups = preference_groups(units, max_tokens=max_tokens)
    batches = [to_batch([examples[i] for i in group], pad_id, group) for group in groups]
    step = objective.begin_step(model, batches)
    loss_sum = sum(require_finite(step.summed(batch).item(), batch) for batch in batches)
    return HeldOut(
        loss_sum=loss_sum,
        weight=step.denominator,
        tokens=sum(int((batch.weights_BT > 0).sum()) for batch in batches),
        correct=None,
        rows=len(units.members),
        preference=step.measures(),
    )


def preference_groups(units: Units, *, max_tokens: int = BATCH_TOKENS) -> list[list[int]]:
    """Return the examples of each batch in which held-out preferences are computed."""
    groups = group_by_length(units.padded, max_tokens=max_tokens)
    return [units.members[group].ravel().tolist() for group in groups]


def require_finite(total: float, batch: Batch) -> float:
    """Return a batch's loss; raises RunError where it is not finite."""
    if not math.isfinite(total):
        raise RunError(_not_finite(total, batch), code="loss_not_finite")
    return total


def _not_finite(total: float, batch: Batch) -> Fault:
    return Fault(
        found=f"a held-out loss of {total}",
        where="rows " + ", ".join(batch.row_ids[:10]),
        fix="lower training.learning_rate; if it was so before training, use another base model "
        "or model.dtype: fp32",
    )
