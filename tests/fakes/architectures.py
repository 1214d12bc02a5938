"""Tiny random models of the architectures that people tune, of a hundredth of a second each.

Every number that differs between architectures differs here: query and key-value heads, an MLP
width that is no multiple of the hidden one, a head width of its own, rotary positions on a part of
each head. Weights are large enough that a forgotten factor or cap shows in the logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from tests.fakes.tiny import make_tokenizer

VOCABULARY = 300  # the byte tokenizer's 271 and a padded rest, as real models have
NUM_LABELS = 3

_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_ENCODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 2,
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What makes one; `kind` is its model_type in config.json."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    linears: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """The last names of one layer's linear layers, in the model's order; no head."""
    is_tied: bool = False
    has_experts: bool = False


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_FUSED = ("o_proj", "qkv_proj", "gate_up_proj", "down_proj")
_PHI = {
    "num_key_value_heads": 4,
    "original_max_position_embeddings": 128,
    "sliding_window": 16,
}

# Qwen 2 and Qwen 2.5 are one architecture, as are SmolLM, SmolLM2 and Llama.
DECODERS: dict[str, Architecture] = {
    "llama": Architecture(kind="llama"),
    "smollm2": Architecture(kind="llama", settings={"tie_word_embeddings": True}, is_tied=True),
    "smollm3": Architecture(
        kind="smollm3",
        settings={"no_rope_layer_interval": 2, "tie_word_embeddings": True},
        is_tied=True,
    ),
    "mistral": Architecture(kind="mistral", settings={"sliding_window": 16}),
    "qwen2": Architecture(kind="qwen2"),
    "qwen3": Architecture(kind="qwen3", settings={"head_dim": 16}),
    "phi3": Architecture(kind="phi3", settings=_PHI, linears=_FUSED),
    "phi4-mini": Architecture(
        kind="phi3",
        settings={
            "original_max_position_embeddings": 128,
            "max_position_embeddings": 512,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.75,
                "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
                "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            },
            "hidden_size": 64,
            "head_dim": 16,
            "tie_word_embeddings": True,
        },
        linears=_FUSED,
        is_tied=True,
    ),
    "gemma2": Architecture(
        kind="gemma2",
        settings={"query_pre_attn_scalar": 8, "final_logit_softcapping": 0.5, "head_dim": 16},
        is_tied=True,
    ),
    "gemma3": Architecture(
        kind="gemma3_text",
        settings={"query_pre_attn_scalar": 8, "sliding_window": 16, "head_dim": 16},
        is_tied=True,
    ),
    "gpt2": Architecture(
        kind="gpt2",
        settings={
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 128,
            "num_key_value_heads": 4,
        },
        linears=("c_attn", "c_proj", "c_fc", "c_proj"),
        is_tied=True,
    ),
    "mixtral": Architecture(
        kind="mixtral",
        settings={"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
        linears=_ATTENTION,
        has_experts=True,
    ),
    "qwen3-moe": Architecture(
        kind="qwen3_moe",
        settings={**_EXPERTS, "moe_intermediate_size": 24, "head_dim": 16},
        linears=_ATTENTION,
        has_experts=True,
    ),
    "olmoe": Architecture(kind="olmoe", settings=_EXPERTS, linears=_ATTENTION, has_experts=True),
}
ENCODERS: dict[str, Architecture] = {
    "bert": Architecture(kind="bert", linears=("query", "key", "value", "dense", "dense", "dense")),
    "deberta-v2": Architecture(
        kind="deberta-v2",
        settings={
            "relative_attention": True,
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
        },
        linears=("query_proj", "key_proj", "value_proj", "dense", "dense", "dense"),
    ),
    "modernbert": Architecture(
        kind="modernbert",
        settings={"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
        linears=("Wqkv", "Wo", "Wi", "Wo"),
    ),
}


def make_decoder(name: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Make a frozen causal language model, by its name in DECODERS."""
    chosen = DECODERS[name]
    config = AutoConfig.for_model(chosen.kind, **{**_DECODER, **chosen.settings, **changes})
    return _random(AutoModelForCausalLM, config, dtype)


def make_classifier(name: str, **changes: Any) -> Any:
    """Make a frozen encoder with a head of NUM_LABELS classes a text, by its name in ENCODERS."""
    return _random(AutoModelForSequenceClassification, _encoder_config(name, changes))


def make_tagger(name: str, **changes: Any) -> Any:
    """Make a frozen encoder with a head of NUM_LABELS classes a token, by its name in ENCODERS."""
    return _random(AutoModelForTokenClassification, _encoder_config(name, changes))


def save_decoder(folder: Path, name: str, **changes: Any) -> Path:
    """Write a model folder with a byte tokenizer and a chat template, and return it."""
    make_tokenizer(folder)
    make_decoder(name, **changes).save_pretrained(folder)
    return folder


def save_encoder(folder: Path, name: str) -> Path:
    """Write the folder of an encoder that was trained to fill gaps, and return it."""
    make_tokenizer(folder)
    _random(AutoModelForMaskedLM, _encoder_config(name, {})).save_pretrained(folder)
    return folder


def _encoder_config(name: str, changes: dict[str, Any]) -> Any:
    chosen = ENCODERS[name]
    settings = {**_ENCODER, **chosen.settings, "num_labels": NUM_LABELS, **changes}
    return AutoConfig.for_model(chosen.kind, **settings)


def _random(kind: Any, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Make the model in `dtype`; what loading keeps in fp32 (rotary frequencies) stays so."""
    torch.manual_seed(0)
    model = kind.from_config(config, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=generator) * 0.2
            if parameter.ndim >= 2:
                parameter.copy_(values)
            else:
                parameter.add_(values)  # biases, and norms away from 1
    return model.eval().requires_grad_(False)
