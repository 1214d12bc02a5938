r"""Weight-decomposed low-rank adaptation (Liu et al., 2024): direction by LoRA, length by itself.

    y = g * (x W^T + scale (x A^T) B^T) + bias,    g = m / |W + scale B A|  of each output

m starts as the length of W's rows, so g is 1 and the adapter at step 0 changes nothing. As in
section 4.3 of the paper the length is a constant in the backward pass; it changes when A and B
do, once a step, and is worked out without ever forming W + scale B A:

    |w + s b A|^2 = |w|^2 + 2 s b (A w) + s^2 b (A A^T) b^T      of each row w of W, b of B

On a bf16 base an output is rounded before and after it is multiplied, so a length acts on it only
once it differs by half a step of bf16, 0.2 %; it is trained in fp32 all the while.

Shapes: N tokens, R rank.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.methods.lora import factors_of, hold_factors, product_gradients
from tunesmith.methods.start import Factors
from tunesmith.models.linear import bias_of, weight_of


class DoraLinear(nn.Module):
    """A frozen linear layer with a low-rank update and a trained length for each output."""

    square_norm: Tensor
    norm: Tensor
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
        square_norm = weight_of(base).detach().float().square().sum(dim=1)
        self.register_buffer("square_norm", square_norm, persistent=False)
        self.register_buffer("norm", square_norm.sqrt(), persistent=False)
        self.magnitude = nn.Parameter(self.norm.clone())
        self.train(base.training)
        if start.changes_weight:
            self.measure()
            self.magnitude.data.copy_(self.norm)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer to [..., in]; the base alone where `active` is False."""
        if not self.active:
            return self.base(inputs)
        if (self.training and self.dropout) or torch.compiler.is_compiling():
            return self._plainly(inputs)
        flat = inputs.reshape(-1, inputs.shape[-1])
        output = _DoraProduct.apply(
            flat, *factors_of(self), self.magnitude, self.norm, self.base, self.scale
        )
        assert isinstance(output, Tensor)
        return output.view(*inputs.shape[:-1], -1)

    def _plainly(self, inputs: Tensor) -> Tensor:
        """Apply it product by product, with dropout where that is on."""
        a, b = factors_of(self)
        dropped = F.dropout(inputs, self.dropout, self.training)
        low = F.linear(dropped, a.to(inputs.dtype))
        update = F.linear(low, (b * self.scale).to(inputs.dtype))
        gain = self.magnitude / self.norm
        bias = bias_of(self.base)
        scaled = ((self.base(inputs) + update) * gain).to(inputs.dtype)
        return scaled if bias is None else scaled + _unscaled(bias, gain)

    @torch.no_grad()
    def measure(self) -> None:
        """Work out the lengths of the rows anew, after A and B have changed."""
        a, b = factors_of(self)
        weight = weight_of(self.base)
        along_OR = (weight @ a.to(weight.dtype).T).float()
        square_RR = a @ a.T
        cross = (b * along_OR).sum(dim=1)
        square = ((b @ square_RR) * b).sum(dim=1)
        total = self.square_norm + 2 * self.scale * cross + self.scale**2 * square
        # rounding may take the length of a row that is all but cancelled below nothing
        self.norm.copy_(total.clamp_min_(torch.finfo(torch.float32).tiny).sqrt_())


def _unscaled(bias: Tensor, gain: Tensor) -> Tensor:
    """What a scaled bias lacks: nothing where g is 1, so that step 0 changes no bit of 16."""
    return (bias * (1 - gain)).to(bias.dtype)


class _DoraProduct(torch.autograd.Function):
    """All products in one node. Of the output only itself is kept, which others keep, too."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        lora_A: Tensor,
        lora_B: Tensor,
        magnitude: Tensor,
        norm: Tensor,
        base: nn.Module,
        scale: float,
    ) -> Tensor:
        a, b = lora_A.to(inputs.dtype), (lora_B * scale).to(inputs.dtype)
        gain = magnitude / norm
        low_NR = inputs @ a.T
        bias = bias_of(base)
        output = F.linear(inputs, weight_of(base), bias).addmm_(low_NR, b.T).mul_(gain)
        if bias is not None:
            output += _unscaled(bias, gain)
        ctx.save_for_backward(inputs, low_NR, a, b, magnitude, gain, output)
        ctx.base, ctx.scale = base, scale
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, low_NR, a, b, magnitude, gain, output = ctx.saved_tensors
        grad, bias = gradients[0], bias_of(ctx.base)
        unbiased = output if bias is None else output - bias
        # y - bias = m u / |.|, so its derivative by m is (y - bias) / m
        along = (grad.float() * unbiased).sum(dim=0)
        grad_magnitude = torch.where(magnitude == 0, 0.0, along / magnitude)
        scaled = torch.mul(grad, gain, out=torch.empty_like(grad))
        grad_inputs, grad_a, grad_b = product_gradients(ctx, scaled, inputs, low_NR, a, b)
        return grad_inputs, grad_a, grad_b, grad_magnitude, None, None, None
