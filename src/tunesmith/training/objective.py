"""What a step minimises: a sum over micro-batches, divided once by what was counted beforehand.

An objective says for the whole step what it divides by, before the first backward. So the gradient
does not depend on how the rows of a step are spread over micro-batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tunesmith.data.collate import Batch
from tunesmith.training.loss import LanguageModel, summed_loss
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks


class StepObjective(Protocol):
    """The objective of one step."""

    @property
    def denominator(self) -> float:
        """What the sum of all micro-batches is divided by; 0 where there is nothing to learn."""
        ...

    def summed(self, batch: Batch) -> Tensor:
        """Return the sum of a micro-batch as a scalar that can go backward."""
        ...

    def measures(self) -> Mapping[str, float]:
        """Return what else is to be told of the step, once all micro-batches are summed."""
        ...


class Objective(Protocol):
    """Begins a step, for which it may look at all of this rank's micro-batches."""

    @property
    def rows_together(self) -> int:
        """How many rows that follow one another belong into the same micro-batch."""
        ...

    def begin_step(
        self, model: LanguageModel, batches: Sequence[Batch], ranks: Ranks = ONE_RANK
    ) -> StepObjective:
        """Count what the step divides by, over the micro-batches of all ranks."""
        ...


@dataclass(frozen=True)
class TokenObjective:
    """Cross-entropy: the mean over all supervised tokens of the step."""

    rows_together: int = 1

    def begin_step(
        self, model: LanguageModel, batches: Sequence[Batch], ranks: Ranks = ONE_RANK
    ) -> StepObjective:
        """Count the weight of the step's supervised tokens."""
        (weight,) = ranks.sums([sum(float(batch.weights_BT.sum()) for batch in batches)])
        return _TokenStep(model, weight)


@dataclass(frozen=True)
class _TokenStep:
    model: LanguageModel
    denominator: float

    def summed(self, batch: Batch) -> Tensor:
        return summed_loss(self.model, batch).total

    def measures(self) -> Mapping[str, float]:
        return {}
