"""Modules that are trained whole beside adapters: one matrix where it was one, and PEFT's files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch

from tests.fakes.architectures import DECODERS, make_decoder, save_decoder
from tests.fakes.tiny_llama import make_examples
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.data.collate import to_batch
from tunesmith.methods.adapter_files import WEIGHTS_FILE, read_adapter
from tunesmith.methods.attach import Weighted, load_adapter, load_adapters
from tunesmith.methods.base import count_trainable
from tunesmith.methods.lora_method import AppliedLora, apply_lora
from tunesmith.methods.merge import plan_merge, write_merged
from tunesmith.methods.switching import adapters_off
from tunesmith.models.facts import read_facts
from tunesmith.models.load import load_model
from tunesmith.recipe.adapter_config import CONFIG_FILE
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.loss import language_model
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.step import train_step

TOKENS = torch.arange(24).view(2, 12) * 7 % 271


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits.float()


def adapted(model: Any, *modules: str, **settings: Any) -> AppliedLora:
    """Apply LoRA beside whole modules and give everything that is trained values of its own."""
    part = LoraMethod(**{"rank": 4, "modules_to_save": modules, **settings})
    applied = apply_lora(model, part, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in applied.trainable.values():
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)
    applied.publish()
    return applied


def embedding_of(name: str) -> str:
    return "wte" if name == "gpt2" else "embed_tokens"


def by_peft(model: Any, folder: Path, **settings: Any) -> Any:
    """Let PEFT make and save an adapter; everything that it trains gets values of its own."""
    config = peft.LoraConfig(r=4, target_modules=["o_proj"], **settings)
    with warnings.catch_warnings():  # of tied embeddings
        warnings.simplefilter("ignore")
        made = peft.get_peft_model(model, config).eval()
        torch.manual_seed(0)
        with torch.no_grad():
            for value in made.parameters():
                if value.requires_grad:
                    value.add_(torch.randn_like(value) * 0.05)
        made.save_pretrained(folder)
    return made


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_modules_change_nothing_at_first_and_are_switched_off(name: str, dtype: Any) -> None:
    model = make_decoder(name, dtype=dtype)
    before = logits_of(model)
    applied = apply_lora(
        model, LoraMethod(rank=4, modules_to_save=(embedding_of(name), "lm_head")), seed=0
    )
    assert logits_of(model).equal(before)
    with torch.no_grad():
        for value in applied.trainable.values():
            value.add_(0.05)
    applied.publish()
    after = logits_of(model)
    assert not after.equal(before)
    with adapters_off(model):
        assert logits_of(model).equal(before)
    assert logits_of(model).equal(after)
    assert all(value.dtype == torch.float32 for value in applied.trainable.values())


@pytest.mark.parametrize("name", DECODERS)
def test_peft_loads_whole_modules_with_equal_logits(tmp_path: Path, name: str) -> None:
    model = make_decoder(name)
    adapted(model, embedding_of(name), "lm_head").save(tmp_path, base="some/base")
    again = make_decoder(name)
    load_adapter(again, tmp_path)
    assert logits_of(again).equal(logits_of(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(make_decoder(name), str(tmp_path))
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("llama", {"modules_to_save": ["lm_head", "embed_tokens"]}),
        ("llama", {"modules_to_save": ["norm"]}),  # to PEFT every module whose path ends so
        ("llama", {"modules_to_save": ["mlp"]}),
        ("smollm2", {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
        ("smollm2", {"modules_to_save": ["lm_head"]}),  # unties the head
        ("smollm2", {"modules_to_save": ["embed_tokens"]}),  # unties the embedding
        ("smollm2", {"modules_to_save": ["embed_tokens", "lm_head"]}),  # two copies
    ],
)
def test_whole_modules_of_peft_are_loaded_with_its_logits(
    tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    theirs = by_peft(make_decoder(name), tmp_path, **settings)
    model = make_decoder(name)
    applied = load_adapter(model, tmp_path)
    torch.testing.assert_close(logits_of(model), logits_of(theirs), atol=1e-5, rtol=1e-5)
    with adapters_off(model):
        assert logits_of(model).equal(logits_of(make_decoder(name)))
    applied.save(tmp_path / "again", base="some/base")
    again = make_decoder(name)
    load_adapter(again, tmp_path / "again")
    assert logits_of(again).equal(logits_of(model))


@pytest.mark.parametrize("name", [name for name in DECODERS if DECODERS[name].is_tied])
@pytest.mark.parametrize("word", ["embedding", "lm_head"])
def test_tied_modules_are_one_matrix_by_either_name(name: str, word: str) -> None:
    model = make_decoder(name)
    size = model.lm_head.weight.numel()
    applied = adapted(model, embedding_of(name) if word == "embedding" else word)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert (
        count_trainable(applied)
        - count_trainable(apply_lora(make_decoder(name), LoraMethod(rank=4), seed=0))
        == size
    )


def test_only_the_module_of_that_name_is_saved(tmp_path: Path) -> None:
    adapted(make_decoder("llama"), "norm").save(tmp_path, base="some/base")
    held = safetensors.torch.load_file(tmp_path / WEIGHTS_FILE)
    assert [name for name in held if "lora" not in name] == ["base_model.model.model.norm.weight"]
    assert json.loads((tmp_path / CONFIG_FILE).read_text())["modules_to_save"] == ["model.norm"]


def test_updates_below_a_16_bit_weights_precision_add_up() -> None:
    model = make_decoder("llama", dtype=torch.bfloat16)
    applied = apply_lora(model, LoraMethod(rank=4, modules_to_save=("lm_head",)), seed=0)
    before = model.lm_head.weight.detach().clone()
    for _ in range(64):
        with torch.no_grad():
            applied.trainable["lm_head.weight"].mul_(1 + 2**-10)
        applied.publish()
    ratio = model.lm_head.weight.detach().float() / before.float()
    assert 1.05 < float(ratio.median()) < 1.08


def test_a_step_gives_whole_modules_the_gradients_of_plain_autograd(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "gemma2")
    model = load_model(folder, "fp32")
    applied = apply_lora(model, LoraMethod(rank=4, modules_to_save=("lm_head",)), seed=0)
    batch = to_batch(make_examples([20, 13]), pad_id=0)
    scored = language_model(model, read_facts(folder))
    optimizer = make_optimizer(
        applied.trainable, TrainingPart(optimizer="adamw"), learning_rate=1e-3
    )
    before = applied.trainable["model.embed_tokens.weight"].detach().clone()
    train_step(scored, applied, optimizer, [batch], learning_rate=1e-3, max_gradient_norm=1e9)
    moved = applied.trainable["model.embed_tokens.weight"].detach() - before
    plain: Any = load_model(folder, "fp32").requires_grad_(True)
    logits = plain(
        input_ids=batch.tokens_BT,
        attention_mask=(torch.arange(20) < batch.lengths_B[:, None]).long(),
    ).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.targets_BT.flatten(), reduction="none"
    )
    ((loss * batch.weights_BT.flatten()).sum() / batch.weights_BT.sum()).backward()
    # Adam's first step is the gradient's sign
    gradient = plain.lm_head.weight.grad
    clear = gradient.abs() > 1e-6
    assert torch.equal(moved[clear].sign(), -gradient[clear].sign())
    assert not moved[gradient == 0].any()


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("lm_heads", r"did you mean lm_head\?"),
        ("nothing", "choose from embed_tokens, q_proj"),
        ("act_fn", "matches none of the model's modules"),
    ],
)
def test_a_module_that_is_not_there_is_refused(word: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){reason}"):
        apply_lora(make_decoder("llama"), LoraMethod(modules_to_save=("lm_head", word)), seed=0)


def test_a_module_takes_no_adapter_beside() -> None:
    applied = adapted(make_decoder("llama"), "down_proj")
    assert len(applied.layers) == 12
    with pytest.raises(RecipeError, match="trained whole already"):
        adapted(make_decoder("llama"), "lm_head", targets=("q_proj", "lm_head"))
    tied = adapted(make_decoder("smollm2"), "lm_head", targets=("q_proj", "re:.*(v_proj|lm_head)"))
    assert "lm_head" not in tied.layers


def test_a_rounded_base_trains_its_embeddings_whole_and_no_linear_layer(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "llama")
    applied = adapted(load_model(folder, "fp32", base="nf4"), "embed_tokens", "lm_head")
    assert len(applied.trainable) == 2 * 14 + 2
    with pytest.raises(RecipeError, match="kept in fewer bits"):
        adapted(load_model(folder, "fp32", base="nf4"), "down_proj")


def test_whole_modules_do_not_add_up(tmp_path: Path) -> None:
    adapted(make_decoder("llama"), "lm_head").save(tmp_path, base="some/base")
    with pytest.raises(ModelError, match="do not add up"):
        load_adapters(make_decoder("llama"), [Weighted(tmp_path), Weighted(tmp_path)])


def test_an_adapter_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    adapted(make_decoder("llama"), "lm_head").save(tmp_path, base="some/base")
    with pytest.raises(ModelError, match=r"lm_head.weight of shape \[300, 32\]"):
        load_adapter(make_decoder("llama", vocab_size=301), tmp_path)


@pytest.mark.parametrize("name", ["llama", "smollm2", "gpt2", "gemma3"])
def test_whole_modules_are_merged_into_the_files(tmp_path: Path, name: str) -> None:
    base = save_decoder(tmp_path / "base", name)
    model = load_model(base, "fp32")
    adapted(model, embedding_of(name), "lm_head").save(tmp_path / "adapter", base=str(base))
    plan = plan_merge(base, read_adapter(tmp_path / "adapter"), "original")
    assert not plan.unties_head
    merged = save_decoder(tmp_path / "merged", name)
    write_merged(plan, merged)
    torch.testing.assert_close(
        logits_of(load_model(merged, "fp32")), logits_of(model), atol=1e-4, rtol=1e-4
    )


def test_a_head_that_peft_untied_is_merged_untied_and_an_embedding_alone_refused(
    tmp_path: Path,
) -> None:
    base = save_decoder(tmp_path / "base", "smollm2")
    by_peft(make_decoder("smollm2"), tmp_path / "head", modules_to_save=["lm_head"])
    plan = plan_merge(base, read_adapter(tmp_path / "head"), "original")
    assert plan.unties_head
    by_peft(make_decoder("smollm2"), tmp_path / "embedding", modules_to_save=["embed_tokens"])
    with pytest.raises(ModelError, match="was trained alone"):
        plan_merge(base, read_adapter(tmp_path / "embedding"), "original")
