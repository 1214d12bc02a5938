"""Weights that are trained in place: fp32 masters where the model computes in 16 bits.

An update is often below what 16 bits can add to a weight, so the optimizer steps a copy in fp32;
gradients of micro-batches are added up in fp32 for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn


def make_masters(weights: Iterable[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """Return what the optimizer steps for each weight: itself where it is fp32, else a copy."""
    masters: dict[str, nn.Parameter] = {}
    for name, weight in weights:
        if weight.dtype == torch.float32:
            masters[name] = weight
            continue
        masters[name] = nn.Parameter(weight.detach().float())
        weight.register_post_accumulate_grad_hook(_add_to(masters[name]))
    return masters


def publish_masters(
    weights: Mapping[str, nn.Parameter], masters: Mapping[str, nn.Parameter]
) -> None:
    """Round the masters into the weights that the model computes with."""
    with torch.no_grad():
        for name, master in masters.items():
            if weights[name] is not master:
                weights[name].copy_(master)


def _add_to(master: nn.Parameter) -> Callable[[Tensor], None]:
    def move_gradient(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad.add_(weight.grad)
        weight.grad = None

    return move_gradient
