"""Full fine-tuning: every weight is trained.

The model computes in its own dtype. Where that is 16-bit, the optimizer steps fp32 masters, since
an update is often below what 16 bits can add to a weight; gradients of micro-batches are added up
in fp32 for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


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
        weights = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, master in self.masters.items():
                if weights[name] is not master:
                    weights[name].copy_(master)

    def save(self, folder: Path, *, base: str) -> None:  # noqa: ARG002 (whole without its base)
        """Write the whole model, in the dtype it computes in."""
        model: Any = self.model
        model.save_pretrained(folder)


def apply_full(model: nn.Module) -> AppliedFull:
    """Make every weight of the model trainable."""
    model.requires_grad_(True)
    masters: dict[str, nn.Parameter] = {}
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float32:
            masters[name] = weight
            continue
        masters[name] = nn.Parameter(weight.detach().float())
        weight.register_post_accumulate_grad_hook(_add_to(masters[name]))
    return AppliedFull(model=model, masters=masters)


def _add_to(master: nn.Parameter) -> Callable[[Tensor], None]:
    def move_gradient(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad.add_(weight.grad)
        weight.grad = None

    return move_gradient
