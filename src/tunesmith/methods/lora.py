r"""Low-rank adaptation (Hu et al., 2021): y = x W^T + scale (x A^T) B^T, W frozen.

    x [N, in] --- W [out, in] ------------------- + --- y [N, out]
        \--- A [rank, in] --- B [out, rank] * scale --/

A starts random and B at zero, so the adapter at step 0 changes nothing. A and B are fp32 whatever
the base holds: in bf16 an update below 1/256 of a weight is lost. They are cast once a call; the
gradient comes back in fp32. W may be quantised: it is then made again for each product.

Shapes: N tokens, R rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.methods.start import Factors
from tunesmith.models.linear import bias_of, device_of, weight_of


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank update, in the place of the layer it wraps."""

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    start_A: Tensor | None
    start_B: Tensor | None

    def __init__(self, base: nn.Module, start: Factors, *, scale: float, dropout: float) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self.dropout = dropout
        self.active = True
        hold_factors(self, start)
        self.train(base.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer to [..., in]; the update is left out where `active` is False."""
        if not self.active:
            return self.base(inputs)
        a, b = factors_of(self)
        if (self.training and self.dropout) or torch.compiler.is_compiling():
            dropped = F.dropout(inputs, self.dropout, self.training)
            low = F.linear(dropped, a.to(inputs.dtype))
            return self.base(inputs) + F.linear(low, (b * self.scale).to(inputs.dtype))
        flat = inputs.reshape(-1, inputs.shape[-1])
        output = _LoraProduct.apply(flat, a, b, self.base, self.scale)
        assert isinstance(output, Tensor)
        return output.view(*inputs.shape[:-1], -1)


def hold_factors(layer: Any, start: Factors) -> None:
    """Make A and B trained parameters; a start that is subtracted is kept beside them.

    They are where the weights are; they are drawn in the host's memory, the same on any device.
    """
    device = device_of(layer.base)
    a, b = start.a.to(device), start.b.to(device)
    layer.lora_A, layer.lora_B = nn.Parameter(a), nn.Parameter(b)
    for name, factor in (("start_A", a), ("start_B", b)):
        kept = factor.clone() if start.is_subtracted else None
        layer.register_buffer(name, kept, persistent=False)


def factors_of(layer: Any) -> tuple[Tensor, Tensor]:
    """Return A and B whose product is the update: [A; A0] and [B, -B0] with a subtracted start."""
    if layer.start_A is None:
        return layer.lora_A, layer.lora_B
    return torch.cat([layer.lora_A, layer.start_A]), torch.cat([layer.lora_B, -layer.start_B], 1)


class _LoraProduct(torch.autograd.Function):
    """Both products in one node, so that the input is kept once and W gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, lora_A: Tensor, lora_B: Tensor, base: nn.Module, scale: float
    ) -> Tensor:
        a, b = lora_A.to(inputs.dtype), (lora_B * scale).to(inputs.dtype)
        low_NR = inputs @ a.T
        ctx.save_for_backward(inputs, low_NR, a, b)
        ctx.base, ctx.scale = base, scale
        output = F.linear(inputs, weight_of(base), bias_of(base))
        return output.addmm_(low_NR, b.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_inputs, grad_a, grad_b = product_gradients(ctx, gradients[0], *ctx.saved_tensors)
        return grad_inputs, grad_a, grad_b, None, None


def product_gradients(
    ctx: Any, grad: Tensor, inputs: Tensor, low_NR: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of inputs (where they are wanted), A and B of x W^T + (x a^T) b^T.

    `grad` is that of the output; `b` holds the scale, which A and B do not. W is that of
    `ctx.base`.
    """
    grad_low_NR = grad @ b
    grad_b = (low_NR.T @ grad).T.float().mul_(ctx.scale)
    grad_a = (grad_low_NR.T @ inputs).float()
    grad_inputs = None
    if ctx.needs_input_grad[0]:
        grad_inputs = (grad @ weight_of(ctx.base)).addmm_(grad_low_NR, a)
    return grad_inputs, grad_a, grad_b
