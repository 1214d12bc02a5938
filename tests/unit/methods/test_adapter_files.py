"""Adapter folders that PEFT wrote: every form gives PEFT's own logits, or is refused by name."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from tests.fakes.tiny_llama import VOCABULARY, make_llama
from tunesmith.core.errors import ModelError
from tunesmith.methods.adapter_files import WEIGHTS_FILE
from tunesmith.methods.attach import Weighted, load_adapter, load_adapters
from tunesmith.recipe.adapter_config import CONFIG_FILE

TOKENS = torch.arange(24).view(2, 12) % VOCABULARY


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


def make_gpt2() -> Any:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64,
        initializer_range=0.2,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


def by_peft(folder: Path, make: Any = make_llama, *, seed: int = 0, **settings: Any) -> Any:
    """Let PEFT make and save an adapter whose values are all its own; return PEFT's model."""
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ["q_proj"], **settings})
    with warnings.catch_warnings():  # it warns of tied embeddings
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(make(), config).eval()
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
        if "magnitude" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    with warnings.catch_warnings():  # it says that it adds embeddings
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    return model


def change_config(folder: Path, **values: Any) -> None:
    file = folder / CONFIG_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


FORMS: dict[str, dict[str, Any]] = {
    "ranks of their own": {
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 6},
    },
    "alphas of their own": {
        "target_modules": ["q_proj", "v_proj"],
        "alpha_pattern": {"v_proj": 3, "^model.layers.0.self_attn.q_proj": 20},
    },
    "both, with another scale": {
        "target_modules": "all-linear",
        "rank_pattern": {"gate_proj": 9},
        "alpha_pattern": {"gate_proj": 5},
        "use_rslora": True,
    },
    "a regular expression": {"target_modules": r".*layers\.1\..*(up|down)_proj"},
    "all-linear": {"target_modules": "all-linear"},
    "some layers": {"target_modules": ["q_proj", "o_proj"], "layers_to_transform": [1]},
    "some layers of a list": {
        "target_modules": ["up_proj"],
        "layers_to_transform": 0,
        "layers_pattern": "layers",
    },
    "all but some": {"target_modules": "all-linear", "exclude_modules": ["q_proj"]},
    "dora with rslora": {"target_modules": ["q_proj"], "use_dora": True, "use_rslora": True},
    "an orthogonal start": {"init_lora_weights": "orthogonal"},
    "the head": {"target_modules": ["q_proj", "lm_head"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_what_peft_saved_is_served_with_its_logits(tmp_path: Path, form: str) -> None:
    theirs = by_peft(tmp_path, lambda: make_llama(tie_word_embeddings=False), **FORMS[form])
    model = make_llama(tie_word_embeddings=False)
    load_adapter(model, tmp_path)
    torch.testing.assert_close(logits_of(model), logits_of(theirs), atol=1e-5, rtol=1e-5)
    plain = make_llama(tie_word_embeddings=False)
    assert not torch.allclose(logits_of(model), logits_of(plain), atol=1e-3)


@pytest.mark.parametrize("use_dora", [False, True])
def test_layers_that_keep_their_matrix_the_other_way_round(tmp_path: Path, use_dora: bool) -> None:
    names = ["c_attn", "c_fc"]
    theirs = by_peft(
        tmp_path, make_gpt2, target_modules=names, fan_in_fan_out=True, use_dora=use_dora
    )
    model = make_gpt2()
    load_adapter(model, tmp_path)
    torch.testing.assert_close(logits_of(model), logits_of(theirs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["ranks of their own", "both, with another scale"])
def test_ranks_and_alphas_of_their_own_are_saved_again(tmp_path: Path, form: str) -> None:
    theirs = by_peft(tmp_path / "theirs", **FORMS[form])
    model = make_llama()
    applied = load_adapter(model, tmp_path / "theirs")
    applied.save(tmp_path / "ours", base="b")
    again = peft.PeftModel.from_pretrained(make_llama(), tmp_path / "ours")
    torch.testing.assert_close(logits_of(again), logits_of(theirs), atol=1e-5, rtol=1e-5)


def test_embeddings_that_are_not_the_bases_are_refused(tmp_path: Path) -> None:
    by_peft(tmp_path, lambda: make_llama(tie_word_embeddings=False), target_modules=["lm_head"])
    with pytest.raises(ModelError, match="weight of its own"):
        load_adapter(make_llama(tie_word_embeddings=False, seed=5), tmp_path)


@pytest.mark.parametrize("tie", [False, True])
def test_factors_of_the_embedding_are_refused(tmp_path: Path, tie: bool) -> None:
    by_peft(tmp_path, target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=tie)
    with pytest.raises(ModelError, match="factors of the token embedding"):
        load_adapter(make_llama(), tmp_path)


def test_a_stack_is_pefts_own_sum(tmp_path: Path) -> None:
    first = by_peft(tmp_path / "a", seed=1, target_modules=["q_proj", "v_proj"])
    by_peft(tmp_path / "b", seed=2, r=2, target_modules=["v_proj", "up_proj"], use_rslora=True)
    first.load_adapter(str(tmp_path / "b"), adapter_name="b")
    first.add_weighted_adapter(["default", "b"], [1.0, 0.5], "both", combination_type="cat")
    first.set_adapter("both")
    model = make_llama()
    load_adapters(model, [Weighted(tmp_path / "a"), Weighted(tmp_path / "b", 0.5)])
    torch.testing.assert_close(logits_of(model), logits_of(first), atol=1e-5, rtol=1e-5)


def test_one_adapter_may_count_by_half(tmp_path: Path) -> None:
    by_peft(tmp_path, lora_alpha=6)
    model, other = make_llama(), make_llama()
    load_adapters(model, [Weighted(tmp_path, 0.5)])
    change_config(tmp_path, lora_alpha=3)
    load_adapter(other, tmp_path)
    torch.testing.assert_close(logits_of(model), logits_of(other))


def test_dora_in_a_stack_is_refused_with_the_reason(tmp_path: Path) -> None:
    by_peft(tmp_path / "a")
    by_peft(tmp_path / "b", use_dora=True)
    model = make_llama()
    with pytest.raises(ModelError, match="length of each whole row"):
        load_adapters(model, [Weighted(tmp_path / "a"), Weighted(tmp_path / "b")])
    assert logits_of(model).equal(logits_of(make_llama()))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"lora_bias": True}, "biases of its own"),
        ({"bias": "lora_only"}, "biases of the base"),
        ({"modules_to_save": ["lm_head"]}, "no weight of lm_head"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "more than once"),
        ({"trainable_token_indices": [1, 2]}, "token embedding"),
        ({"init_lora_weights": "pissa"}, "fits a base whose weights"),
        ({"init_lora_weights": "olora"}, "fits a base whose weights"),
        ({"alora_invocation_tokens": [3]}, "certain tokens"),
        ({"future_scale": 0.5}, "future_scale: 0.5 is not known here"),
        ({"peft_type": "XLORA"}, "type XLORA"),
    ],
)
def test_what_changes_the_function_and_is_not_known_here_is_refused_by_name(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    by_peft(tmp_path)
    change_config(tmp_path, **settings)
    with pytest.raises(ModelError, match=reason):
        load_adapter(make_llama(), tmp_path)


def test_settings_of_a_newer_version_that_are_not_used_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = by_peft(tmp_path)
    change_config(tmp_path, enable_lora=None, new_switch=False, new_list=[])
    model = make_llama()
    with caplog.at_level(logging.WARNING):
        load_adapter(model, tmp_path)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "['enable_lora', 'new_list', 'new_switch']" in told
    torch.testing.assert_close(logits_of(model), logits_of(theirs), atol=1e-5, rtol=1e-5)


def test_settings_that_contradict_the_tensors_are_refused(tmp_path: Path) -> None:
    by_peft(tmp_path)
    change_config(tmp_path, r=8)
    with pytest.raises(ModelError, match="factors of rank 4 and 4; its settings say 8"):
        load_adapter(make_llama(), tmp_path)
    change_config(tmp_path, r=4, target_modules=["v_proj"])
    with pytest.raises(ModelError, match="target_modules do not name it"):
        load_adapter(make_llama(), tmp_path)
    change_config(tmp_path, target_modules=["q_proj", "v_proj"])
    with pytest.raises(ModelError, match="matched 2 of 4"):
        load_adapter(make_llama(), tmp_path)


def test_an_adapter_of_another_model_says_how_much_of_it_matches(tmp_path: Path) -> None:
    by_peft(tmp_path)
    with pytest.raises(ModelError, match=r"matched 0 of 2.*the model has it as \[64, 64\]"):
        load_adapter(make_llama(hidden_size=64), tmp_path)
    with pytest.raises(ModelError, match="matched 0 of 2"):
        load_adapter(make_gpt2(), tmp_path)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    by_peft(tmp_path)
    held = safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)
    next(iter(held.values()))[0, 0] = float("nan")
    safetensors.torch.save_file(held, tmp_path / WEIGHTS_FILE)
    with pytest.raises(ModelError, match="not finite"):
        load_adapter(make_llama(), tmp_path)
