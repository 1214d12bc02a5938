"""Keeps a frozen model's linear layers in 4 or 8 bits, through bitsandbytes.

    nf4, fp4   16 levels, one scale for each 64 weights; with double quantisation the scales are
               kept in 8 bits, too (Dettmers et al., 2023): 4.127 bits a weight, else 4.5
    int8       256 levels, one scale for each output (Dettmers et al., 2022): 8 bits a weight

A layer makes its matrix again for each product, in the forward and in the backward pass, and
computes in the model's dtype; so inputs are never rounded. Output head, embeddings and norms stay
as they are. The layers are bitsandbytes' own with another forward: its 4-bit layer packs its bytes
anew for processors with AVX-512 as soon as it is evaluated, which its backward pass cannot read.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, Self, assert_never

import bitsandbytes as bnb
import bitsandbytes.functional as bnb_functional
import torch
from bitsandbytes.nn.modules import Linear4bit as Bnb4bit
from bitsandbytes.nn.modules import Linear8bitLt as Bnb8bit
from torch import Tensor, nn

from tunesmith.models.linear import (
    bias_of,
    frozen_product,
    is_linear,
    is_transposed,
    replace_module,
    weight_of,
)
from tunesmith.recipe.model import BaseForm

log = logging.getLogger(__name__)

INT8_LEVELS = 127
# Its parameter classes are typed as modules and not exported.
parameters: Any = bnb.nn


class Linear4bit(Bnb4bit):
    """A linear layer that keeps its weights in 4 bits."""

    was_transposed: bool

    def dequantised(self) -> Tensor:
        """Make the matrix [out, in]."""
        weight: Any = self.weight
        return bnb_functional.dequantize_4bit(weight.data, weight.quant_state)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [..., in]."""
        return frozen_product(x, self)


class Linear8bit(Bnb8bit):
    """A linear layer that keeps its weights in 8 bits."""

    compute_dtype: torch.dtype
    was_transposed: bool

    def dequantised(self) -> Tensor:
        """Make the matrix [out, in]; the product with the scales is made in fp32."""
        weight: Any = self.weight
        scale: Tensor = weight.SCB / INT8_LEVELS
        return torch.mul(weight.data, scale[:, None]).to(self.compute_dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to [..., in]."""
        return frozen_product(x, self)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the scales with the weights, which the library leaves behind."""
        moved = super()._apply(fn, recurse)
        weight: Any = self.weight
        weight.SCB = weight.SCB.to(weight.device)
        return moved


def quantise_model(
    model: nn.Module,
    kept: Collection[nn.Module],
    form: BaseForm,
    *,
    double_quant: bool,
    dtype: torch.dtype,
) -> None:
    """Quantise every linear layer but those that are kept, in place, and take the rest to `dtype`.

    One matrix at a time, so that little more than the result is held beside the model's file. What
    is not quantised is copied: as long as one tensor of a mapped file is used, all its pages count.
    """
    linears = {
        path: module
        for path, module in model.named_modules()
        if is_linear(module) and not any(module is other for other in kept)
    }
    for path, linear in linears.items():
        layer = _quantised(linear, form, double_quant=double_quant, dtype=dtype)
        replace_module(model, path, layer)
    rounded = {id(module.weight) for module in model.modules() if _is_quantised(module)}
    for parameter in model.parameters():
        if id(parameter) not in rounded:
            parameter.data = parameter.data.to(dtype, copy=True)
    log.info("%d linear layers are kept in %s", len(linears), form)


def _is_quantised(module: nn.Module) -> bool:
    return isinstance(module, Linear4bit | Linear8bit)


def _quantised(
    linear: nn.Module, form: BaseForm, *, double_quant: bool, dtype: torch.dtype
) -> nn.Module:
    weight, bias = weight_of(linear).detach().contiguous(), bias_of(linear)
    match form:
        case "nf4" | "fp4":
            layer: Any = _linear_4bit(weight, bias, form, double_quant=double_quant, dtype=dtype)
        case "int8":
            layer = _linear_8bit(weight, bias, dtype)
        case _:
            assert_never(form)
    layer.was_transposed = is_transposed(linear)
    layer.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
    return layer.eval()


def _linear_4bit(
    weight: Tensor, bias: Tensor | None, form: str, *, double_quant: bool, dtype: torch.dtype
) -> Linear4bit:
    rows, columns = weight.shape
    layer = Linear4bit(
        columns,
        rows,
        bias=bias is not None,
        compute_dtype=dtype,
        compress_statistics=double_quant,
        quant_type=form,
        device="meta",
    )
    held: Any = parameters.Params4bit(
        weight,
        requires_grad=False,
        compress_statistics=double_quant,
        quant_type=form,
        module=layer,
    ).to("cpu")
    held.quant_state.dtype = dtype
    layer.weight = held
    layer.compute_type_is_set = True
    return layer


def _linear_8bit(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Linear8bit:
    rows, columns = weight.shape
    layer = Linear8bit(columns, rows, bias=bias is not None, has_fp16_weights=False, device="meta")
    layer.weight = parameters.Int8Params(weight, requires_grad=False, has_fp16_weights=False).to(
        "cpu"
    )
    layer.compute_dtype = dtype
    return layer
