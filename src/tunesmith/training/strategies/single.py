"""One process on one device: it computes every micro-batch, in the plan's order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tunesmith.data.pack import MicroBatch
from tunesmith.methods.base import AppliedMethod, RemembersSteps
from tunesmith.training.checkpoint import TrainingState, put_back, state_of
from tunesmith.training.loss import LanguageModel
from tunesmith.training.strategies.base import Share
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks


@dataclass(frozen=True)
class Single:
    """The strategy of one rank."""

    ranks: Ranks = ONE_RANK
    can_repeat: bool = True

    def shares(
        self,
        groups: Sequence[MicroBatch],
        size_of: Callable[[MicroBatch], int],  # noqa: ARG002 (all are its own)
    ) -> list[Share]:
        """Return all micro-batches."""
        return [Share(index, rows) for index, rows in enumerate(groups)]

    def seed(self, step: int, index: int) -> int | None:  # noqa: ARG002 (one stream for all)
        """Dropout goes on from one micro-batch to the next."""
        return None

    def compute(self, work: Callable[[], Tensor]) -> Tensor:
        """Compute a loss; the weights are there."""
        return work()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:  # noqa: ARG002 (nobody waits)
        """Add the gradient."""
        loss.backward()

    def update(
        self,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,
        *,
        max_gradient_norm: float,
    ) -> float:
        """Cut the gradient and step."""
        return step_whole(method, optimizer, max_gradient_norm=max_gradient_norm)

    def begin(
        self,
        model: nn.Module,
        scored: LanguageModel,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Nothing: the values are where they are stepped."""

    def state(self, method: AppliedMethod, optimizer: torch.optim.Optimizer) -> TrainingState:
        """Return the values and the optimizer's state."""
        return state_of(method.trainable, optimizer)

    def put_back(
        self, training: TrainingState, method: AppliedMethod, optimizer: torch.optim.Optimizer
    ) -> None:
        """Put values and the optimizer's state back."""
        put_back(training, method.trainable, optimizer)
        method.publish()

    def whole(self) -> AbstractContextManager[None]:
        """They are whole."""
        return nullcontext()


def step_whole(
    method: AppliedMethod, optimizer: torch.optim.Optimizer, *, max_gradient_norm: float
) -> float:
    """Step where this process holds the whole gradient; return its norm before it is cut."""
    if isinstance(method, RemembersSteps):
        method.add_gradients()
    parameters = list(method.trainable.values())
    norm = float(nn.utils.clip_grad_norm_(parameters, max_gradient_norm))
    if math.isfinite(norm):
        optimizer.step()
        method.publish()
        optimizer.zero_grad(set_to_none=True)
    return norm
