"""Full fine-tuning: every weight is trained.

The model computes in its own dtype; where that is 16-bit, the optimizer steps masters in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tunesmith.methods.base import Shape
from tunesmith.methods.masters import make_masters, publish_masters
from tunesmith.models.saving import save_model, saved_shapes


@dataclass(frozen=True, eq=False)
class AppliedFull:
    """A model whose weights are all trained; `masters` are the weights themselves in fp32."""

    model: nn.Module
    masters: dict[str, nn.Parameter]

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The masters; tied weights appear once."""
        return self.masters

    @property
    def rate_factors(self) -> Mapping[str, float]:
        """All weights learn at one rate."""
        return {}

    def publish(self) -> None:
        """Round the masters into the weights that the model computes with."""
        publish_masters(dict(self.model.named_parameters()), self.masters)

    def save(self, folder: Path, *, base: str) -> None:  # noqa: ARG002 (whole without its base)
        """Write the whole model, in the dtype it computes in."""
        save_model(self.model, folder)

    def saved_shapes(self) -> dict[str, Shape]:
        """Every weight once, by the names that the library writes for this architecture."""
        return saved_shapes(self.model)


def apply_full(model: nn.Module, *, masters: bool = True) -> AppliedFull:
    """Make every weight of the model trainable; without masters an engine has its own."""
    model.requires_grad_(True)
    weights = dict(model.named_parameters())
    return AppliedFull(model=model, masters=make_masters(weights.items()) if masters else weights)
