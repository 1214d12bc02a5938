"""Merging on every architecture, on all of its linear layers, also where the base is in shards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.fakes.architectures import DECODERS, save_decoder
from tests.fakes.tiny_llama import randomize_adapters
from tunesmith.export.merged import merge
from tunesmith.methods.lora_method import apply_lora
from tunesmith.models.load import load_model
from tunesmith.recipe.method import LoraMethod

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
