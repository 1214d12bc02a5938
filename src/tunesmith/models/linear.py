"""One view of the linear layers of a model, however they keep their weights.

nn.Linear            weight [out, in]
Conv1D (GPT-2)       weight [in, out]
quantised layers     packed bytes, made into a matrix again for each product (models/quantise.py)

Shapes: N tokens.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

LINEAR_TYPES = (nn.Linear, Conv1D)


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer of any kind."""
    return isinstance(module, LINEAR_TYPES)


def is_quantised(module: nn.Module) -> bool:
    """Whether a module keeps its matrix in fewer bits than it computes with."""
    return hasattr(module, "dequantised")


def is_transposed(module: nn.Module) -> bool:
    """Whether a module keeps its matrix as [in, out], or did so before it was quantised."""
    return isinstance(module, Conv1D) or bool(getattr(module, "was_transposed", False))


def in_features(module: nn.Module) -> int:
    """The width of a linear layer's input."""
    return module.weight.shape[0] if isinstance(module, Conv1D) else cast(Any, module).in_features


def out_features(module: nn.Module) -> int:
    """The width of a linear layer's output."""
    return module.weight.shape[1] if isinstance(module, Conv1D) else cast(Any, module).out_features


def weight_of(module: nn.Module) -> Tensor:
    """Return the matrix [out, in] in the dtype that is computed in.

    A quantised layer makes it anew at each call, so the caller holds it no longer than it needs.
    """
    if is_quantised(module):
        return cast(Any, module).dequantised()
    weight: Tensor = cast(Any, module).weight
    return weight.T if isinstance(module, Conv1D) else weight


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's values are."""
    return next(chain(module.parameters(), module.buffers())).device


def bias_of(module: nn.Module) -> Tensor | None:
    """Return the bias, or None."""
    return cast("Tensor | None", module.bias)


def replace_module(model: nn.Module, path: str, replacement: nn.Module) -> None:
    """Put `replacement` at `path`."""
    parent_path, _, name = path.rpartition(".")
    parent: Any = model.get_submodule(parent_path)
    setattr(parent, name, replacement)


def frozen_product(inputs: Tensor, module: nn.Module) -> Tensor:
    """Apply a frozen layer to [..., in] and keep nothing of it for the backward pass."""
    flat_NI = inputs.reshape(-1, inputs.shape[-1])
    output = _FrozenProduct.apply(flat_NI, module)
    assert isinstance(output, Tensor)
    return output.view(*inputs.shape[:-1], -1)


class _FrozenProduct(torch.autograd.Function):
    """x W^T + bias, where W is made again for the gradient of x."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, module: nn.Module) -> Tensor:
        ctx.module = module
        return F.linear(inputs, weight_of(module).to(inputs.dtype), bias_of(module))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return gradient @ weight_of(ctx.module).to(gradient.dtype), None
