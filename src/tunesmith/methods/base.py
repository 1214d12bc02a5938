"""What every method offers once it has been applied to a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from tunesmith.models.tensor_parts import Shape


class AppliedMethod(Protocol):
    """A method in place: the loop trains `trainable`, and the model computes with it."""

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """What the optimizer steps, in fp32, by names that are the same in every process."""
        ...

    @property
    def rate_factors(self) -> Mapping[str, float]:
        """By which factor a parameter's learning rate differs, by its name; absent ones by 1."""
        ...

    def publish(self) -> None:
        """Let the model compute with the values that `trainable` now has.

        After a step gradients are still there; after values were put back there are none.
        """
        ...

    def save(self, folder: Path, *, base: str) -> None:
        """Write what was trained to `folder`; `base` says where the base model is found."""
        ...

    def saved_shapes(self) -> dict[str, Shape]:
        """Return the names and shapes of the tensors that `save` writes.

        They are told while this process holds the model whole.
        """
        ...


@runtime_checkable
class RemembersSteps(Protocol):
    """What a method offers beside that whose steps depend on the ones before."""

    def add_gradients(self) -> None:
        """Add the gradient of the method's own penalty, once a step, before it is clipped."""
        ...

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beside the trained values."""
        ...

    def put_back(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what a checkpoint kept."""
        ...


def count_trainable(method: AppliedMethod) -> int:
    """How many numbers the method trains."""
    return sum(parameter.numel() for parameter in method.trainable.values())
