"""Reports about what is trained: classifiers, tied heads, fused projections, lists as text."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from tests.fakes.architectures import make_decoder, save_decoder
from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_examples
from tests.fakes.tiny_run import make_rows, make_run, start_run
from tunesmith.core.errors import RecipeError
from tunesmith.core.events import read_events
from tunesmith.core.file_hash import file_sha256
from tunesmith.core.run_dir import read_json
from tunesmith.data.collate import to_batch
from tunesmith.export.merged import merge
from tunesmith.inference.loading import load
from tunesmith.methods.adapter_files import WEIGHTS_FILE, read_adapter
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.base import count_trainable
from tunesmith.methods.lora_method import apply_lora
from tunesmith.methods.merge import plan_merge, write_merged
from tunesmith.models.facts import read_facts
from tunesmith.models.load import load_model
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.loss import language_model
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.step import train_step

SHAPE_135M: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
SMALL = {"vocab_size": 97, "hidden_size": 36, "intermediate_size": 48}
TOKENS = torch.arange(24).view(2, 12) * 7 % 97


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits.float()


def make_classifier(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**{**SHAPE_135M, "num_labels": 3, "pad_token_id": 0, **changes})
    return LlamaForSequenceClassification(config).eval().requires_grad_(False)


def train(model: Any, folder: Path, applied: Any, steps: int) -> None:
    scored = language_model(model, read_facts(folder))
    optimizer = make_optimizer(applied.trainable, TrainingPart(), learning_rate=1e-2)
    for step in range(steps):
        batch = to_batch(make_examples([20, 13], seed=step), pad_id=0)
        train_step(scored, applied, optimizer, [batch], learning_rate=1e-2, max_gradient_norm=1.0)


def test_b065_a_classifiers_head_is_trained_whole_and_takes_no_adapter(tmp_path: Path) -> None:
    part = LoraMethod(rank=8, modules_to_save=("score",))
    with torch.device("meta"):
        true_shape = make_classifier()
    applied = apply_lora(true_shape, part, seed=0)
    assert len(applied.layers) == 210
    assert not any("score" in path for path in applied.layers)
    assert applied.trainable["score.weight"].shape == (3, 576)

    model = make_classifier(**SMALL)
    applied = apply_lora(model, part, seed=0)
    with torch.no_grad():
        for value in applied.trainable.values():
            value.add_(torch.randn_like(value) * 0.05)
    applied.save(tmp_path, base="some/base")
    theirs = peft.PeftModel.from_pretrained(make_classifier(**SMALL), str(tmp_path))
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-5, rtol=1e-5)
    ours = make_classifier(**SMALL)
    load_adapter(ours, tmp_path)
    torch.testing.assert_close(logits_of(ours), logits_of(model), atol=1e-5, rtol=1e-5)


def test_b067_tied_modules_trained_whole_stay_one_after_merge_and_reload(tmp_path: Path) -> None:
    base = save_decoder(tmp_path / "base", "smollm2")
    model: Any = load_model(base, "fp32")
    part = LoraMethod(rank=4, modules_to_save=("embed_tokens", "lm_head"))
    applied = apply_lora(model, part, seed=0)
    train(model, base, applied, steps=5)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    applied.save(make_tokenizer(tmp_path / "adapter"), base=str(base))
    merge(str(tmp_path / "adapter"), tmp_path / "merged", base=str(base))
    merged: Any = load_model(tmp_path / "merged", "fp32")
    assert float((logits_of(merged) - logits_of(model)).abs().max()) < 1e-4
    assert not logits_of(merged).equal(logits_of(load_model(base, "fp32")))
    assert read_json(tmp_path / "merged" / "config.json")["tie_word_embeddings"] is True
    assert merged.lm_head.weight is merged.get_input_embeddings().weight


def test_b067_new_tokens_are_refused_before_anything_is_fetched() -> None:
    with pytest.raises(RecipeError, match=r"new_tokens.*further tokens in the vocabulary"):
        load_recipe(
            {
                "model": {"source": "smollm2-135m-instruct", "new_tokens": ["<tag>", "</tag>"]},
                "task": "chat",
                "data": {"train": "sample:support"},
            }
        )


def test_b068_an_adapter_on_a_tied_head_is_refused_before_training(tmp_path: Path) -> None:
    model_folder = save_decoder(tmp_path / "model", "smollm2")
    rows = make_rows(tmp_path / "rows.jsonl", 12)
    method = {"type": "lora", "rank": 4, "dropout": 0.0, "targets": ["q_proj", "lm_head"]}
    run_dir = make_run(tmp_path / "run", model_folder, rows, method=method)
    assert start_run(run_dir).wait() == 2
    (error,) = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]
    assert "lm_head is tied" in error["faults"][0]["found"]
    assert not any(event["type"] == "step" for event in read_events(run_dir.events_jsonl))


def test_b068_an_adapter_on_a_head_of_its_own_leaves_the_embedding(tmp_path: Path) -> None:
    base = save_decoder(tmp_path / "base", "llama")
    model = load_model(base, "fp32")
    applied = apply_lora(model, LoraMethod(rank=4, targets=("all-linear", "lm_head")), seed=0)
    train(model, base, applied, steps=3)
    assert applied.trainable["lm_head.lora_B.weight"].any()
    applied.save(tmp_path / "adapter", base=str(base))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(make_decoder("llama"), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-4, rtol=1e-4)
    merged = save_decoder(tmp_path / "merged", "llama")
    write_merged(plan_merge(base, read_adapter(tmp_path / "adapter"), "original"), merged)
    held = [safetensors.torch.load_file(f / "model.safetensors") for f in (base, merged)]
    assert held[0]["model.embed_tokens.weight"].equal(held[1]["model.embed_tokens.weight"])
    assert not held[0]["lm_head.weight"].equal(held[1]["lm_head.weight"])
    torch.testing.assert_close(
        logits_of(load_model(merged, "fp32")), logits_of(model), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("form", [None, "nf4", "fp4", "int8"])
def test_b070_dora_on_every_base_is_dora(tmp_path: Path, form: Any) -> None:
    base = save_decoder(tmp_path / "base", "llama")
    model = load_model(base, "fp32", base=form)
    before = logits_of(model)
    applied = apply_lora(model, LoraMethod(type="dora", rank=4), seed=0)
    torch.testing.assert_close(logits_of(model), before, atol=1e-5, rtol=1e-5)
    applied.save(tmp_path / "adapter", base=str(base))
    held = safetensors.torch.load_file(tmp_path / "adapter" / WEIGHTS_FILE)
    assert sum(name.endswith("lora_magnitude_vector") for name in held) == 14


def test_b073_one_adapter_a_target_on_the_shape_of_135_million() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPE_135M))
    applied = apply_lora(model, LoraMethod(rank=8), seed=0)
    assert len(applied.layers) == 210
    assert count_trainable(applied) == 30 * 8 * (2 * 1152 + 2 * 768 + 3 * 2112)
    with pytest.raises(AssertionError, match="applied twice"):
        apply_lora(model, LoraMethod(rank=8), seed=0)


def test_b125_a_list_given_as_text_is_a_list_of_one() -> None:
    recipe = load_recipe(
        {
            "model": "smollm2-135m-instruct",
            "task": "chat",
            "data": {"train": "sample:support"},
            "method": {"type": "lora", "modules_to_save": "lm_head", "targets": "q_proj"},
        }
    ).recipe
    assert isinstance(recipe.method, LoraMethod)
    assert recipe.method.modules_to_save == ("lm_head",)
    assert recipe.method.targets == ("q_proj",)


def test_a_run_with_whole_modules_and_fused_names_ends_and_answers(tmp_path: Path) -> None:
    model_folder = save_decoder(tmp_path / "model", "phi4-mini")
    before = file_sha256(model_folder / "model.safetensors")
    rows = make_rows(tmp_path / "rows.jsonl", 12)
    method = {
        "type": "lora",
        "rank": 4,
        "dropout": 0.0,
        "targets": ["qkv_proj", "gate_up_proj"],
        "modules_to_save": ["embed_tokens"],
    }
    run_dir = make_run(tmp_path / "run", model_folder, rows, method=method)
    assert start_run(run_dir).wait() == 0, run_dir.log.read_text()
    plan = read_json(run_dir.plan_json)
    assert [(kind["modules"], kind["name"]) for kind in plan["trained"]] == [
        (2, "qkv_proj"),
        (2, "gate_up_proj"),
        (1, "embed_tokens"),
    ]
    assert sum(kind["values"] for kind in plan["trained"]) == plan["trainable_parameters"]
    notes = [event.get("message", "") for event in read_events(run_dir.events_jsonl)]
    assert any(note.startswith("trained: 2 x qkv_proj (") for note in notes)
    answers: Any = load(str(run_dir.path)).model
    base: Any = load_model(model_folder, "fp32")
    moved = answers.get_input_embeddings().weight.float() - base.get_input_embeddings().weight
    assert moved.any()
    assert answers.lm_head.weight is answers.get_input_embeddings().weight
    assert file_sha256(model_folder / "model.safetensors") == before


def test_a_recipe_for_another_model_is_told_what_to_write_before_training(tmp_path: Path) -> None:
    model_folder = save_decoder(tmp_path / "model", "phi3")
    rows = make_rows(tmp_path / "rows.jsonl", 12)
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    method = {"type": "lora", "rank": 4, "dropout": 0.0, "targets": names}
    run_dir = make_run(tmp_path / "run", model_folder, rows, method=method)
    assert start_run(run_dir).wait() == 2
    (error,) = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]
    fix = error["faults"][0]["fix"]
    assert fix.startswith("write method.targets: [qkv_proj, o_proj, gate_up_proj, down_proj]")
