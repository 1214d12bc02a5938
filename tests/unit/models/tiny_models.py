"""Tiny random models of several families, saved as model folders with a byte tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.fakes.tiny import make_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
# What makes each family's logits its own; a factor far from 1 shows when it is forgotten.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"final_logit_softcapping": 0.5, "query_pre_attn_scalar": 8},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.25},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 300},
}


def make_model(family: str, **changes: Any) -> Any:
    """A random model; the weights are large enough for logits that a cap bends."""
    sizes = {} if family == "gpt2" else SIZES
    config = AutoConfig.for_model(family, **{**sizes, **FAMILIES[family], **changes})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.2)
    return model.eval()


def save_model(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """A whole model folder."""
    make_model(family, **changes).save_pretrained(folder)
    return make_tokenizer(folder)
