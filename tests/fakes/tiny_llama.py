"""Tiny random models and batches made in the test, with no download."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.data.render import Example
from tunesmith.training.loss import LanguageModel

VOCABULARY = 97


def make_llama(*, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Make a frozen Llama with 2 layers, 4 query and 2 key-value heads."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.2,
    }
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{**settings, **changes}))
    rotary = model.model.rotary_emb
    frequencies = rotary.inv_freq
    model.to(dtype)
    rotary.inv_freq = frequencies  # loading a model leaves these in fp32, too
    return model.eval().requires_grad_(False)


def language_model(model: Any, **changes: Any) -> LanguageModel:
    """What the loss needs of the model."""
    return LanguageModel(decoder=model.model, head=model.lm_head, **changes)


def make_examples(
    lengths: list[int], *, seed: int = 0, shared_prefix: int = 0, prompt_share: float = 0.4
) -> list[Example]:
    """Make rows of random tokens; the first `prompt_share` of each is not supervised."""
    generator = np.random.default_rng(seed)
    prefix = generator.integers(0, VOCABULARY, shared_prefix)
    examples: list[Example] = []
    for row, length in enumerate(lengths):
        own = generator.integers(0, VOCABULARY, length - shared_prefix)
        tokens = np.concatenate([prefix, own]).astype(np.int32)
        weights = np.ones(length, dtype=np.float32)
        weights[: max(1, shared_prefix + 1, int(length * prompt_share))] = 0
        examples.append(
            Example(
                row_id=f"rows:{row + 1}", file="rows", line=row + 1, tokens=tokens, weights=weights
            )
        )
    return examples


def randomize_adapters(model: nn.Module, *, seed: int = 1) -> None:
    """Give every B factor random values: a fresh adapter changes nothing and would hide a fault."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_B"):
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
