from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.unit.models.tiny_models import FAMILIES, save_model
from tunesmith.core.errors import ModelError
from tunesmith.models.facts import read_facts
from tunesmith.models.load import load_model

LOGITS = {
    "llama": (1.0, None),
    "gemma2": (1.0, 0.5),
    "granite": (1 / 8, None),
    "cohere": (0.25, None),
    "gpt2": (1.0, None),
}


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_facts_are_the_model_s_own(family: str, tmp_path: Path) -> None:
    save_model(tmp_path, family)
    facts = read_facts(tmp_path)
    model = load_model(tmp_path, "fp32")
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (facts.layers, facts.hidden, facts.vocab, facts.max_positions) == (2, 32, 300, 64)
    assert (facts.logit_scale, facts.logit_softcap) == LOGITS[family]
    assert facts.architecture == type(model).__name__


@pytest.mark.parametrize("tied", [True, False])
def test_tied_and_untied_heads_are_told_apart(tied: bool, tmp_path: Path) -> None:
    save_model(tmp_path, "llama", tie_word_embeddings=tied)
    facts = read_facts(tmp_path)
    model = load_model(tmp_path, "fp32")
    assert facts.tied is tied
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_a_stored_copy_of_a_tied_head_and_old_buffers_are_not_counted(tmp_path: Path) -> None:
    save_model(tmp_path, "llama", tie_word_embeddings=True)
    before = read_facts(tmp_path).parameters
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, tmp_path / "model.safetensors")
    assert read_facts(tmp_path).parameters == before


def test_the_end_tokens_come_from_the_generation_config_first(tmp_path: Path) -> None:
    save_model(tmp_path)
    assert read_facts(tmp_path).eos_ids == (2,)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 2]}')
    assert read_facts(tmp_path).eos_ids == (5, 2)
    (tmp_path / "generation_config.json").unlink()
    assert read_facts(tmp_path).eos_ids == (2,)


def test_an_architecture_that_brings_its_own_code_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path)
    edit_config(tmp_path, model_type="homemade", auto_map={"AutoConfig": "code.Config"})
    (tmp_path / "code.py").write_text("raise SystemExit('the folder ran its code')")
    with pytest.raises(ModelError, match="its own code, which is never run"):
        read_facts(tmp_path)


def test_a_known_architecture_is_fine_with_an_auto_map(tmp_path: Path) -> None:
    save_model(tmp_path)
    edit_config(tmp_path, auto_map={"AutoModelForCausalLM": "code.Model"})
    (tmp_path / "code.py").write_text("raise SystemExit('the folder ran its code')")
    assert read_facts(tmp_path).layers == 2
    load_model(tmp_path, "fp32")


def test_a_model_that_does_not_write_text_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path)
    edit_config(tmp_path, model_type="vit")
    with pytest.raises(ModelError, match="not a model that writes text"):
        read_facts(tmp_path)


def test_a_config_with_nonsense_in_it_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path)
    edit_config(tmp_path, num_hidden_layers="two")
    with pytest.raises(ModelError, match=r"config\.json cannot be used"):
        read_facts(tmp_path)
