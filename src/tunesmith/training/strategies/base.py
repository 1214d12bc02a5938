"""What a strategy offers: which part of a step this rank computes, and how it becomes an update.

plan      step 3:  m0 m1 m2 m3 m4            the same whatever the number of ranks
shares    rank 0:  m0 m3       rank 1:  m1 m2 m4
backward  each micro-batch's sum, divided by the whole step's count
update    gradients added up over the ranks, cut to a norm, one step of the optimizer
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tunesmith.core.rank_place import RankPlace
from tunesmith.data.pack import MicroBatch
from tunesmith.methods.base import AppliedMethod
from tunesmith.training.checkpoint import TrainingState
from tunesmith.training.loss import LanguageModel
from tunesmith.training.strategies.division import divide_in_step
from tunesmith.training.strategies.ranks import Ranks


@dataclass(frozen=True)
class Share:
    """A micro-batch of this rank, and its place among the step's.

    One that does not count is computed to keep the ranks in step, and adds nothing.
    """

    index: int
    rows: MicroBatch
    counts: bool = True


def shares_in_step(
    groups: Sequence[MicroBatch], size_of: Callable[[MicroBatch], int], place: RankPlace
) -> list[Share]:
    """Return a rank's micro-batches where all ranks make as many passes, fillers among them."""
    own = divide_in_step([size_of(rows) for rows in groups], place.size)[place.rank]
    return [Share(index, groups[index], counts) for index, counts in own]


class Strategy(Protocol):
    """How the work of a step is spread. Every rank has one and calls it alike."""

    @property
    def ranks(self) -> Ranks:
        """Who takes part."""
        ...

    def shares(
        self, groups: Sequence[MicroBatch], size_of: Callable[[MicroBatch], int]
    ) -> list[Share]:
        """Return what this rank computes of a step's micro-batches; a size is in tokens."""
        ...

    @property
    def can_repeat(self) -> bool:
        """Whether a step in which memory ran out on one rank can be made again."""
        ...

    def compute(self, work: Callable[[], Tensor]) -> Tensor:
        """Compute a micro-batch's loss, where and how the weights are at hand."""
        ...

    def seed(self, step: int, index: int) -> int | None:
        """What dropout in a micro-batch is drawn from; None: it goes on from where it is."""
        ...

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradient of a micro-batch's part of the step's loss."""
        ...

    def update(
        self,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,
        *,
        max_gradient_norm: float,
    ) -> float:
        """Make the step from what `backward` added; return the gradient's norm before its cut.

        Where that is not finite, nothing is updated.
        """
        ...

    def begin(
        self,
        model: nn.Module,
        scored: LanguageModel,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Take over model, values and optimizer before the first step."""
        ...

    def state(self, method: AppliedMethod, optimizer: torch.optim.Optimizer) -> TrainingState:
        """Return what a checkpoint keeps, whole; it counts on rank 0 only."""
        ...

    def put_back(
        self, training: TrainingState, method: AppliedMethod, optimizer: torch.optim.Optimizer
    ) -> None:
        """Go on from what a checkpoint kept, by whatever number of ranks."""
        ...

    def whole(self) -> AbstractContextManager[None]:
        """Within the block the model of rank 0 holds all its values: to evaluate and to save."""
        ...
