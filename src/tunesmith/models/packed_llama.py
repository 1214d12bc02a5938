"""Rows without padding through a decoder of the Llama family, to hidden states.

Runs the modules of a transformers model (their weights, adapters included) in an order of its own:
every token of a micro-batch lies in one line, a prefix that all rows share is computed once, and
each element-wise step between two matrix products is one function with a hand-written backward
that keeps only what it needs. Same numbers as the model's own forward, up to rounding.

Shapes: N tokens in the line, C hidden width, F MLP width, K key-value heads, G query heads a
key-value head, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tunesmith.models.row_attention import RowLayout, row_attention

# Decoder layers whose forward is: norm, attention with rotary positions, add, norm, gated MLP, add.
_KNOWN_LAYERS = frozenset(
    {"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"}
)


# Set on a decoder whose weights are spread over ranks: they are put together module by module, for
# the modules' own forward passes.
SPREAD = "weights_are_spread"


def knows(architecture: str) -> bool:
    """Whether a model of this name (`LlamaForCausalLM`) has such layers, before it is loaded."""
    return architecture.removesuffix("ForCausalLM") + "DecoderLayer" in _KNOWN_LAYERS


def supports(decoder: nn.Module) -> bool:
    """Whether the decoder is one that `run_packed` computes."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers) or getattr(decoder, SPREAD, False):
        return False
    config: Any = decoder.config
    return (
        all(type(layer).__name__ in _KNOWN_LAYERS for layer in layers)
        and getattr(config, "sliding_window", None) is None
        and getattr(config, "hidden_act", None) == "silu"
        and not getattr(config, "attention_dropout", 0.0)
        and config.rope_parameters.get("rope_type") in {"default", "linear", "llama3"}
        and _is_unwrapped(decoder)
    )


def _is_unwrapped(decoder: Any) -> bool:
    """Whether no method has put something before the texts, or itself around a norm."""
    layers: Any = decoder.layers
    norms = [decoder.norm, *(layer.input_layernorm for layer in layers)]
    has_prompt = any(name == "virtual_prompt" for name, _ in decoder.named_children())
    return not has_prompt and all(hasattr(norm, "variance_epsilon") for norm in norms)


def run_packed(
    decoder: Any,
    tokens_N: Tensor,
    positions_N: Tensor,
    layout: RowLayout,
    *,
    recompute: bool = False,
) -> Tensor:
    """Return the hidden states [N, C] behind the decoder's last norm.

    With `recompute` only the input of each layer is kept, and the layer is computed again in the
    backward pass (Chen et al., 2016), with the dropout that it had.
    """
    hidden_NC: Tensor = decoder.embed_tokens(tokens_N)
    cos_1ND, sin_1ND = decoder.rotary_emb(hidden_NC, position_ids=positions_N[None])
    rotation = (cos_1ND[0], sin_1ND[0])
    for layer in decoder.layers:
        if recompute and torch.is_grad_enabled():
            again: Any = checkpoint(_layer, layer, hidden_NC, rotation, layout, use_reentrant=False)
            hidden_NC = again
        else:
            hidden_NC = _layer(layer, hidden_NC, rotation, layout)
    return rms_norm(hidden_NC, decoder.norm)


def _layer(
    layer: Any, hidden_NC: Tensor, rotation: tuple[Tensor, Tensor], layout: RowLayout
) -> Tensor:
    normed_NC = rms_norm(hidden_NC, layer.input_layernorm)
    hidden_NC = hidden_NC + _attention(layer.self_attn, normed_NC, rotation, layout)
    normed_NC = rms_norm(hidden_NC, layer.post_attention_layernorm)
    return hidden_NC + _gated_mlp(layer.mlp, normed_NC)


def _attention(
    module: Any, hidden_NC: Tensor, rotation: tuple[Tensor, Tensor], layout: RowLayout
) -> Tensor:
    num_tokens, head_width, groups = len(hidden_NC), module.head_dim, module.num_key_value_groups
    query_NHD = module.q_proj(hidden_NC).view(num_tokens, -1, head_width)
    key_NKD = module.k_proj(hidden_NC).view(num_tokens, -1, head_width)
    value_NKD = module.v_proj(hidden_NC).view(num_tokens, -1, head_width)
    if hasattr(module, "q_norm"):
        query_NHD = rms_norm(query_NHD, module.q_norm)
        key_NKD = rms_norm(key_NKD, module.k_norm)
    query_KNGD = rotate(query_NHD, *rotation).unflatten(1, (-1, groups)).transpose(0, 1)
    output_KNGD = row_attention(
        query_KNGD.contiguous(),
        rotate(key_NKD, *rotation).transpose(0, 1).contiguous(),
        value_NKD.transpose(0, 1).contiguous(),
        layout,
        scale=module.scaling,
    )
    return module.o_proj(output_KNGD.transpose(0, 1).reshape(num_tokens, -1))


def _gated_mlp(module: Any, hidden_NC: Tensor) -> Tensor:
    return module.down_proj(gated_silu(module.gate_proj(hidden_NC), module.up_proj(hidden_NC)))


def rms_norm(hidden: Tensor, norm: Any) -> Tensor:
    """Root mean square norm over the last axis (Zhang and Sennrich, 2019), fp32 inside."""
    if norm.weight.requires_grad:
        return F.rms_norm(hidden, (hidden.shape[-1],), norm.weight, norm.variance_epsilon)
    output = _RmsNorm.apply(hidden, norm.weight, norm.variance_epsilon)
    assert isinstance(output, Tensor)
    return output


class _RmsNorm(torch.autograd.Function):
    """With r = 1 / rms(x): y = w r x; dx = r (w dy) - r^3 x mean(w dy x)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = hidden.float()
        square = torch.linalg.vecdot(wide, wide).unsqueeze(-1)
        inverse = torch.rsqrt(square / hidden.shape[-1] + epsilon)
        ctx.save_for_backward(hidden, weight, inverse)
        return weight * (wide * inverse).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, inverse = ctx.saved_tensors
        wide = hidden.float()
        scaled = (gradients[0] * weight).float()
        inner = torch.linalg.vecdot(scaled, wide).unsqueeze(-1)
        factor = inner * inverse.pow(2) / hidden.shape[-1]
        return scaled.addcmul_(wide, factor, value=-1).mul_(inverse).to(hidden.dtype), None, None


def rotate(heads_NHD: Tensor, cos_ND: Tensor, sin_ND: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., 2021), halves paired as transformers pairs them."""
    output = _Rotate.apply(heads_NHD, cos_ND, sin_ND)
    assert isinstance(output, Tensor)
    return output


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(heads, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotated(gradients[0], cos, -sin), None, None


def _rotated(heads_NHD: Tensor, cos_ND: Tensor, sin_ND: Tensor) -> Tensor:
    half = heads_NHD.shape[-1] // 2
    cos, sin = cos_ND[:, None, :half], sin_ND[:, None, :half]
    first, second = heads_NHD[..., :half], heads_NHD[..., half:]
    output = heads_NHD.new_empty(heads_NHD.shape)
    torch.mul(first, cos, out=output[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=output[..., half:]).addcmul_(first, sin)
    return output


def gated_silu(gate_NF: Tensor, up_NF: Tensor) -> Tensor:
    """silu(gate) * up; keeps the two inputs and computes silu again in the backward pass."""
    output = _GatedSilu.apply(gate_NF, up_NF)
    assert isinstance(output, Tensor)
    return output


class _GatedSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        grad_up = F.silu(gate).mul_(gradients[0])
        grad_gate = torch.ops.aten.silu_backward(gradients[0] * up, gate)
        return grad_gate, grad_up
