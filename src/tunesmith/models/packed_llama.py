"""Rows without padding through a decoder of the Llama family, to hidden states.

Runs the modules of a transformers model (their weights, adapters included) in an order of its own:
every token of a micro-batch lies in one line, a prefix that all rows share is computed once, and
each element-wise step between two matrix products is one function with a hand-written backward
that keeps only what it needs. Same numbers as the model's own forward, up to rounding. Where layers
are compiled (`compile_layers`), the steps are plain ones, which the compiler joins by itself.

Shapes: N tokens in the line, C hidden width, F MLP width, H query heads, K key-value heads, D head
width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# Decoder layers whose forward is: norm, attention with rotary positions, add, norm, gated MLP, add.
_KNOWN_LAYERS = frozenset(
    {
        "LlamaDecoderLayer",
        "MistralDecoderLayer",
        "Phi3DecoderLayer",
        "Qwen2DecoderLayer",
        "Qwen3DecoderLayer",
    }
)
# Those of them of which every layer has the window of the settings.
_WINDOWED_LAYERS = frozenset({"MistralDecoderLayer", "Phi3DecoderLayer"})
# Which rotate by the position alone, and by the longest row of a batch (long: both ways alike).
_KNOWN_POSITIONS = frozenset({"default", "linear", "llama3", "longrope"})
Layer = Callable[[Any, Tensor, tuple[Tensor, Tensor], "Layout"], Tensor]

# Set on a decoder whose weights are spread over ranks: they are put together module by module, for
# the modules' own forward passes.
SPREAD = "weights_are_spread"
# Set on a decoder whose layers are compiled: the compiled function.
_COMPILED = "compiled_layer"


class Layout(Protocol):
    """Where rows lie in a line; it knows which token may see which."""

    @property
    def length(self) -> int:
        """How long the line is, filling included."""
        ...

    def attend(
        self, query_NHD: Tensor, key_NKD: Tensor, value_NKD: Tensor, *, scale: float
    ) -> Tensor:
        """Softmax attention of each row over itself and the shared prefix; returns [N, H, D]."""
        ...

    def to(self, device: torch.device) -> Layout:
        """Return it with its tensors on a device."""
        ...


def knows(architecture: str) -> bool:
    """Whether a model of this name (`LlamaForCausalLM`) has such layers, before it is loaded."""
    return architecture.removesuffix("ForCausalLM") + "DecoderLayer" in _KNOWN_LAYERS


def supports(decoder: nn.Module) -> bool:
    """Whether the decoder is one that `run_packed` computes."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not len(layers) or getattr(decoder, SPREAD, False):
        return False
    config: Any = decoder.config
    names = {type(layer).__name__ for layer in layers}
    return (
        names <= _KNOWN_LAYERS
        and (window_of(decoder) is None or names <= _WINDOWED_LAYERS)
        and getattr(config, "hidden_act", None) == "silu"
        and not getattr(config, "attention_dropout", 0.0)
        and not getattr(config, "resid_pdrop", 0.0)
        and config.rope_parameters.get("rope_type") in _KNOWN_POSITIONS
        and _is_unwrapped(decoder)
    )


def window_of(decoder: Any) -> int | None:
    """How many tokens one sees, itself among them; None: all before it."""
    return getattr(decoder.config, "sliding_window", None)


def head_width_of(decoder: Any) -> int:
    """The width of an attention head."""
    return decoder.layers[0].self_attn.head_dim


def compile_layers(decoder: Any) -> None:
    """Have `run_packed` compute layers with gradients by a compiled function from now on."""
    setattr(decoder, _COMPILED, torch.compile(_layer, dynamic=True))


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
    layout: Layout,
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
    trains = torch.is_grad_enabled()
    compute: Layer = getattr(decoder, _COMPILED, _layer) if trains else _layer
    for layer in decoder.layers:
        if recompute and trains:
            again: Any = checkpoint(
                compute, layer, hidden_NC, rotation, layout, use_reentrant=False
            )
            hidden_NC = again
        else:
            hidden_NC = compute(layer, hidden_NC, rotation, layout)
    return rms_norm(hidden_NC, decoder.norm)


def _layer(
    layer: Any, hidden_NC: Tensor, rotation: tuple[Tensor, Tensor], layout: Layout
) -> Tensor:
    normed_NC = rms_norm(hidden_NC, layer.input_layernorm)
    hidden_NC = hidden_NC + _attention(layer.self_attn, normed_NC, rotation, layout)
    normed_NC = rms_norm(hidden_NC, layer.post_attention_layernorm)
    return hidden_NC + _gated_mlp(layer.mlp, normed_NC)


def _attention(
    module: Any, hidden_NC: Tensor, rotation: tuple[Tensor, Tensor], layout: Layout
) -> Tensor:
    query_NHD, key_NKD, value_NKD = (
        heads_NC.unflatten(1, (-1, module.head_dim)) for heads_NC in _projected(module, hidden_NC)
    )
    if hasattr(module, "q_norm"):
        query_NHD = rms_norm(query_NHD, module.q_norm)
        key_NKD = rms_norm(key_NKD, module.k_norm)
    output_NHD = layout.attend(
        rotate(query_NHD, *rotation), rotate(key_NKD, *rotation), value_NKD, scale=module.scaling
    )
    return module.o_proj(output_NHD.flatten(1))


def _projected(module: Any, hidden_NC: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values, which some models make in one product."""
    if not hasattr(module, "qkv_proj"):
        return module.q_proj(hidden_NC), module.k_proj(hidden_NC), module.v_proj(hidden_NC)
    keys = module.num_key_value_heads * module.head_dim
    joined = module.qkv_proj(hidden_NC)
    return joined.split([joined.shape[1] - 2 * keys, keys, keys], dim=1)


def _gated_mlp(module: Any, hidden_NC: Tensor) -> Tensor:
    if hasattr(module, "gate_up_proj"):
        gate_NF, up_NF = module.gate_up_proj(hidden_NC).chunk(2, dim=-1)
    else:
        gate_NF, up_NF = module.gate_proj(hidden_NC), module.up_proj(hidden_NC)
    return module.down_proj(gated_silu(gate_NF, up_NF))


def rms_norm(hidden: Tensor, norm: Any) -> Tensor:
    """Root mean square norm over the last axis (Zhang and Sennrich, 2019), fp32 inside."""
    if norm.weight.requires_grad or torch.compiler.is_compiling():
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
    """Rotary position embedding (Su et al., 2021), halves paired as transformers pairs them.

    Where cosines and sines are narrower than a head, its other values stay as they are.
    """
    if torch.compiler.is_compiling():
        return _rotated_plainly(heads_NHD, cos_ND, sin_ND)
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
    width = cos_ND.shape[-1]
    half = width // 2
    cos, sin = cos_ND[:, None, :half], sin_ND[:, None, :half]
    first, second = heads_NHD[..., :half], heads_NHD[..., half:width]
    output = heads_NHD.new_empty(heads_NHD.shape)
    torch.mul(first, cos, out=output[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=output[..., half:width]).addcmul_(first, sin)
    output[..., width:] = heads_NHD[..., width:]
    return output


def _rotated_plainly(heads_NHD: Tensor, cos_ND: Tensor, sin_ND: Tensor) -> Tensor:
    width = cos_ND.shape[-1]
    half = width // 2
    cos, sin = cos_ND[:, None, :half], sin_ND[:, None, :half]
    first, second, rest = heads_NHD.split([half, half, heads_NHD.shape[-1] - width], dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


def gated_silu(gate_NF: Tensor, up_NF: Tensor) -> Tensor:
    """silu(gate) * up; keeps the two inputs and computes silu again in the backward pass."""
    if torch.compiler.is_compiling():
        return F.silu(gate_NF) * up_NF
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
