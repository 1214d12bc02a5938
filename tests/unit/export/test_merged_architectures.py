"""Merging on every architecture, on all of its linear layers, also where the base is in shards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.fakes.architectures import DECODERS, save_decoder
from tests.fakes.tiny_llama import randomize_adapters
from tests.fakes.tiny_settings import TINY_SETTINGS
from tunesmith.core.errors import ModelError
from tunesmith.export.merged import merge
from tunesmith.methods.lora_method import apply_lora
from tunesmith.methods.peft_library import apply_peft
from tunesmith.models.load import load_model
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.peft_method import ROWS, PeftMethod

TOKENS = torch.arange(24).view(2, 12)


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_a_merged_model_answers_as_the_adapter_did(
    tmp_path: Path, architecture: str, kind: str
) -> None:
    base = save_decoder(tmp_path / "base", architecture)
    model = load_model(base, "fp32")
    applied = apply_lora(model, LoraMethod.model_validate({"type": kind, "rank": 4}), seed=0)
    randomize_adapters(model)
    applied.publish()
    applied.save(tmp_path / "adapter", base=str(base))
    record = merge(str(tmp_path / "adapter"), tmp_path / "merged")
    assert record["merged_tensors"] == len(applied.layers)
    merged = load_model(tmp_path / "merged", "fp32")
    with torch.no_grad():
        wanted = model(input_ids=TOKENS, use_cache=False).logits
        logits = merged(input_ids=TOKENS, use_cache=False).logits
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
@pytest.mark.parametrize("word", ROWS)
def test_a_merged_method_of_the_library_answers_as_the_adapter_did(
    tmp_path: Path, architecture: str, word: str
) -> None:
    base = save_decoder(tmp_path / "base", architecture)
    model = load_model(base, "fp32")
    part = PeftMethod.model_validate({"type": word, **TINY_SETTINGS.get(word, {})})
    if architecture == "gpt2" and not part.row.on_conv1d:
        return
    applied = apply_peft(model, part, seed=0, steps=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in applied.trainable.values():
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)
        wanted = model(input_ids=TOKENS, use_cache=False).logits
    applied.save(tmp_path / "adapter", base=str(base))
    if part.row.kind == "prompt":
        with pytest.raises(ModelError, match="no change of weights"):
            merge(str(tmp_path / "adapter"), tmp_path / "merged")
        assert not (tmp_path / "merged").exists()
        return
    record = merge(str(tmp_path / "adapter"), tmp_path / "merged")
    assert record["adapter"]["type"] == word
    assert record["merged_tensors"] > 0
    merged = load_model(tmp_path / "merged", "fp32")
    with torch.no_grad():
        logits = merged(input_ids=TOKENS, use_cache=False).logits
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-3)
