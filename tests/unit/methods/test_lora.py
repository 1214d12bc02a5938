"""Invariants 7, 8 and 10 for LoRA: files that PEFT loads, equal logits, identity at step 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch

from tests.fakes.tiny_llama import VOCABULARY, make_llama, randomize_adapters
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.methods.adapter_files import WEIGHTS_FILE
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.base import count_trainable
from tunesmith.methods.lora_method import AppliedLora, apply_lora
from tunesmith.methods.switching import adapters_off
from tunesmith.methods.targets import find_targets
from tunesmith.recipe.adapter_config import CONFIG_FILE
from tunesmith.recipe.method import LoraMethod

TOKENS = torch.arange(24).view(2, 12) % VOCABULARY


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


def adapted_llama(**changes: Any) -> tuple[Any, AppliedLora]:
    model = make_llama()
    applied = apply_lora(model, LoraMethod(**{"rank": 4, "alpha": 8.0, **changes}), seed=3)
    return model, applied


def test_an_adapter_at_step_0_changes_nothing() -> None:
    model, _ = adapted_llama()
    assert logits_of(model).equal(logits_of(make_llama()))


def test_adapters_off_gives_the_base_and_on_again_gives_the_adapter() -> None:
    model, _ = adapted_llama()
    randomize_adapters(model)
    adapted = logits_of(model)
    with adapters_off(model):
        assert logits_of(model).equal(logits_of(make_llama()))
    assert logits_of(model).equal(adapted)
    assert not adapted.equal(logits_of(make_llama()))


def test_the_trainable_count_is_the_closed_form_and_nothing_else_takes_a_gradient() -> None:
    model, applied = adapted_llama()
    linears = find_targets(make_llama(), "all-linear").values()
    assert count_trainable(applied) == sum(4 * (m.in_features + m.out_features) for m in linears)
    trained = {id(parameter) for parameter in applied.trainable.values()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == trained
    assert all(parameter.dtype == torch.float32 for parameter in applied.trainable.values())


@pytest.mark.parametrize("targets", ["all-linear", "attention", "mlp", ("q_proj", "v_proj")])
def test_peft_loads_the_saved_adapter_with_equal_logits(tmp_path: Path, targets: Any) -> None:
    model, applied = adapted_llama(targets=targets)
    randomize_adapters(model)
    applied.save(tmp_path, base="some/base")
    theirs = peft.PeftModel.from_pretrained(make_llama(), tmp_path)
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-5, rtol=1e-5)


def test_what_peft_saved_is_loaded_with_equal_logits(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    theirs = peft.get_peft_model(make_llama(), config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path)
    model = make_llama()
    load_adapter(model, tmp_path)
    torch.testing.assert_close(logits_of(model), logits_of(theirs), atol=1e-5, rtol=1e-5)


def test_the_saved_adapter_holds_what_was_trained(tmp_path: Path) -> None:
    model, applied = adapted_llama()
    randomize_adapters(model)
    applied.save(tmp_path, base="some/base")
    held = safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)
    assert len(held) == len(applied.trainable) == 2 * 2 * 7
    for name, parameter in applied.trainable.items():
        assert held["base_model.model." + name].equal(parameter)
        assert parameter.abs().sum() > 0
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert config["base_model_name_or_path"] == "some/base"
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8.0, "LORA")


def test_merged_weights_equal_the_adapter_applied() -> None:
    model, applied = adapted_llama()
    randomize_adapters(model)
    merged = make_llama()
    with torch.no_grad():
        for path, layer in applied.layers.items():
            update = layer.scale * layer.lora_B @ layer.lora_A
            merged.get_submodule(path).weight.add_(update)
    torch.testing.assert_close(logits_of(merged), logits_of(model), atol=1e-4, rtol=1e-4)


def test_names_that_match_nothing_are_all_refused_with_the_names_that_exist() -> None:
    with pytest.raises(
        RecipeError, match=r"2 x q_proj \[32, 32\], 2 x k_proj \[16, 32\]"
    ) as caught:
        apply_lora(make_llama(), LoraMethod(targets=("q_proy", "nothing", "v_proj")), seed=0)
    assert [fault.found.split("'")[1] for fault in caught.value.faults] == ["q_proy", "nothing"]


def test_the_output_head_is_never_a_target() -> None:
    for tied in (True, False):
        assert "lm_head" not in find_targets(make_llama(tie_word_embeddings=tied), "all-linear")
    with pytest.raises(RecipeError, match="lm_head"):
        find_targets(make_llama(), ["lm_head"])


def test_an_adapter_with_wrong_or_missing_names_is_refused_with_the_names(tmp_path: Path) -> None:
    _, applied = adapted_llama()
    applied.save(tmp_path, base="some/base")
    held = safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)
    renamed = {name.replace("layers.0", "layers.9"): value for name, value in held.items()}
    safetensors.torch.save_file(renamed, tmp_path / WEIGHTS_FILE)
    with pytest.raises(ModelError, match=r"layers\.9"):
        load_adapter(make_llama(), tmp_path)
    held.pop(min(held))
    safetensors.torch.save_file(held, tmp_path / WEIGHTS_FILE)
    with pytest.raises(ModelError, match="lora_A"):
        load_adapter(make_llama(), tmp_path)


def test_a_folder_without_an_adapter_names_the_one_beneath(tmp_path: Path) -> None:
    _, applied = adapted_llama()
    applied.save(tmp_path / "checkpoint-40", base="some/base")
    with pytest.raises(ModelError, match="no adapter here; found checkpoint-40"):
        load_adapter(make_llama(), tmp_path)


def test_small_updates_are_not_lost_on_a_bf16_base() -> None:
    model = make_llama(dtype=torch.bfloat16)
    applied = apply_lora(model, LoraMethod(rank=4), seed=0)
    (first, *_) = applied.trainable.values()
    with torch.no_grad():
        first.fill_(1.0)
        first.add_(1e-3)
    assert first.dtype == torch.float32
    assert (first != 1.0).all()


def test_dropout_scales_what_is_kept_and_is_off_outside_training() -> None:
    model, _ = adapted_llama(dropout=0.5)
    randomize_adapters(model)
    still = logits_of(model)
    assert still.equal(logits_of(model))
    model.train()
    torch.manual_seed(0)
    assert not logits_of(model).equal(still)
