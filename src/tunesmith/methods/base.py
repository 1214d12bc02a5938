"""What every method offers once it has been applied to a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from torch import nn


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
        """Let the model compute with the values that `trainable` now has; gradients are there."""
        ...

    def save(self, folder: Path, *, base: str) -> None:
        """Write what was trained to `folder`; `base` says where the base model is found."""
        ...


def count_trainable(method: AppliedMethod) -> int:
    """How many numbers the method trains."""
    return sum(parameter.numel() for parameter in method.trainable.values())
