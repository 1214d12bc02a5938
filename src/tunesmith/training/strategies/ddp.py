"""Data parallel: every rank holds the whole model and computes its share of each step's rows.

Gradients are added up once a step, after the last micro-batch: ranks with more micro-batches than
others, with none, or whose gradients are in fp32 masters need nothing special, and layers that are
computed again in the backward pass are no case of their own. Every rank then cuts the same gradient
and makes the same step, so the values stay equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunesmith.data.pack import MicroBatch
from tunesmith.methods.base import AppliedMethod
from tunesmith.training.checkpoint import TrainingState, put_back, state_of
from tunesmith.training.loss import LanguageModel
from tunesmith.training.strategies.base import Share
from tunesmith.training.strategies.division import divide, seed_of
from tunesmith.training.strategies.ranks import Ranks
from tunesmith.training.strategies.single import step_whole


@dataclass(frozen=True)
class DataParallel:
    """The strategy of several ranks that are all alike; `random_seed` is the recipe's."""

    ranks: Ranks
    random_seed: int
    can_repeat: bool = True

    def shares(
        self, groups: Sequence[MicroBatch], size_of: Callable[[MicroBatch], int]
    ) -> list[Share]:
        """Return this rank's micro-batches; there may be none."""
        own = divide([size_of(rows) for rows in groups], self.ranks.size)[self.ranks.place.rank]
        return [Share(index, groups[index]) for index in own]

    def seed(self, step: int, index: int) -> int | None:
        """Dropout is drawn anew for each micro-batch, whichever rank computes it."""
        return seed_of(self.random_seed, step, index)

    def compute(self, work: Callable[[], Tensor]) -> Tensor:
        """Compute a loss; the weights are there."""
        return work()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:  # noqa: ARG002 (exchanged at the end)
        """Add the gradient, on this rank alone."""
        loss.backward()

    def update(
        self,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,
        *,
        max_gradient_norm: float,
    ) -> float:
        """Add up the ranks' gradients, cut and step."""
        self.ranks.sum_gradients(method.trainable.values())
        return step_whole(method, optimizer, max_gradient_norm=max_gradient_norm)

    def begin(
        self,
        model: nn.Module,  # noqa: ARG002 (stays as it is)
        scored: LanguageModel,  # noqa: ARG002 (stays as it is)
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002 (each rank has its own)
    ) -> None:
        """Begin with rank 0's values everywhere."""
        self.ranks.copy_from_main(method.trainable.values())
        method.publish()

    def state(self, method: AppliedMethod, optimizer: torch.optim.Optimizer) -> TrainingState:
        """Return the values and the optimizer's state, which all ranks have alike."""
        return state_of(method.trainable if self.ranks.is_main else {}, optimizer)

    def put_back(
        self, training: TrainingState, method: AppliedMethod, optimizer: torch.optim.Optimizer
    ) -> None:
        """Put values and the optimizer's state back, on every rank."""
        put_back(training, method.trainable, optimizer)
        method.publish()

    def whole(self) -> AbstractContextManager[None]:
        """Every rank is whole."""
        return nullcontext()
