r"""Low-rank adaptation (Hu et al., 2021): y = x W^T + scale (x A^T) B^T, W frozen.

    x [N, in] --- W [out, in] ------------------- + --- y [N, out]
        \--- A [rank, in] --- B [out, rank] * scale --/

A starts random, B starts at zero, so the adapter at step 0 changes nothing. A and B are fp32
whatever the base holds: in bf16 an update below 1/256 of a weight is lost. They are cast once a
call; the gradient comes back in fp32.

Shapes: N tokens, R rank.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def start_factors(
    base: nn.Linear, rank: int, generator: torch.Generator
) -> tuple[nn.Parameter, nn.Parameter]:
    """Return A, random, and B, zero, for a linear layer."""
    bound = 1 / math.sqrt(base.in_features)  # Kaiming uniform with a = sqrt(5), as PEFT starts
    start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
    return nn.Parameter(start), nn.Parameter(torch.zeros(base.out_features, rank))


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank update, in the place of the `nn.Linear` it wraps."""

    def __init__(
        self,
        base: nn.Linear,
        *,
        rank: int,
        scale: float,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.base = base
        self.rank = rank
        self.scale = scale
        self.dropout = dropout
        self.active = True
        self.lora_A, self.lora_B = start_factors(base, rank, generator)
        self.train(base.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer to [..., in]; the update is left out where `active` is False."""
        if not self.active:
            return self.base(inputs)
        if self.training and self.dropout:
            dropped = F.dropout(inputs, self.dropout)
            update = F.linear(F.linear(dropped, self._a(inputs)), self._b(inputs))
            return self.base(inputs) + update
        bias = self.base.bias
        flat = inputs.reshape(-1, inputs.shape[-1])
        output = _LoraProduct.apply(
            flat, self.base.weight, bias, self.lora_A, self.lora_B, self.scale
        )
        assert isinstance(output, Tensor)
        return output.view(*inputs.shape[:-1], -1)

    def _a(self, like: Tensor) -> Tensor:
        return self.lora_A.to(like.dtype)

    def _b(self, like: Tensor) -> Tensor:
        return (self.lora_B * self.scale).to(like.dtype)


class _LoraProduct(torch.autograd.Function):
    """Both products in one node, so that the input is kept once and W gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lora_A: Tensor,
        lora_B: Tensor,
        scale: float,
    ) -> Tensor:
        a, b = lora_A.to(inputs.dtype), (lora_B * scale).to(inputs.dtype)
        low_NR = inputs @ a.T
        ctx.save_for_backward(inputs, weight, low_NR, a, b)
        ctx.scale = scale
        output = F.linear(inputs, weight, bias)
        return output.addmm_(low_NR, b.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_inputs, grad_a, grad_b = product_gradients(ctx, gradients[0], *ctx.saved_tensors)
        return grad_inputs, None, None, grad_a, grad_b, None


def product_gradients(
    ctx: Any, grad: Tensor, inputs: Tensor, weight: Tensor, low_NR: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients of inputs (where they are wanted), A and B of x W^T + (x a^T) b^T.

    `grad` is that of the output; `b` holds the scale, which A and B do not.
    """
    grad_low_NR = grad @ b
    grad_b = (low_NR.T @ grad).T.float().mul_(ctx.scale)
    grad_a = (grad_low_NR.T @ inputs).float()
    grad_inputs = None
    if ctx.needs_input_grad[0]:
        grad_inputs = (grad @ weight).addmm_(grad_low_NR, a)
    return grad_inputs, grad_a, grad_b
