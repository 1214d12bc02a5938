"""Methods of the PEFT library: its files, its own logits, prompts while generating, AdaLoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import peft
import pytest
import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tests.fakes.architectures import VOCABULARY, make_decoder, save_decoder
from tests.fakes.tiny_llama import make_examples
from tests.fakes.tiny_settings import TINY_SETTINGS
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.data.collate import to_batch
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.methods.adapter_files import WEIGHTS_FILE
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.base import AppliedMethod, RemembersSteps, count_trainable
from tunesmith.methods.peft_library import ADAPTER, apply_peft
from tunesmith.methods.switching import adapters_off
from tunesmith.recipe.method_list import list_methods
from tunesmith.recipe.peft_method import ROWS, PeftMethod, PeftWord
from tunesmith.training.loss import LanguageModel, summed_loss
from tunesmith.training.step import train_step

TOKENS = torch.arange(24).view(2, 12) * 7 % VOCABULARY
PROMPTS = [word for word, row in ROWS.items() if row.kind == "prompt"]
# Those whose whole matrices or masks the meta device cannot make.
NOT_ON_META = ("boft", "shira")


def part_for(word: str) -> PeftMethod:
    return PeftMethod.model_validate({"type": word, **TINY_SETTINGS.get(word, {})})


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


def applied(word: str, *, architecture: str = "llama", seed: int = 3) -> tuple[Any, AppliedMethod]:
    model = make_decoder(architecture)
    return model, apply_peft(model, part_for(word), seed=seed, steps=4)


def move(method: AppliedMethod) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in method.trainable.values():
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)


def test_the_words_of_a_recipe_are_the_rows_of_the_table() -> None:
    assert set(get_args(PeftWord)) == set(ROWS)
    assert set(ROWS) < set(list_methods())


@pytest.mark.filterwarnings("ignore")  # the library's own, of itself
@pytest.mark.parametrize("word", ROWS)
def test_peft_loads_what_was_saved_with_equal_logits(tmp_path: Path, word: str) -> None:
    model, method = applied(word)
    move(method)
    method.save(tmp_path, base="some/base")
    theirs = peft.PeftModel.from_pretrained(make_decoder("llama"), str(tmp_path)).eval()
    assert theirs.peft_config[ADAPTER].base_model_name_or_path == "some/base"
    found = logits_of(theirs)[:, -TOKENS.shape[1] :]
    torch.testing.assert_close(found, logits_of(model), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # the library's own, of itself
@pytest.mark.parametrize("word", ROWS)
def test_what_peft_saved_is_loaded_with_equal_logits(tmp_path: Path, word: str) -> None:
    _, method = applied(word)
    wrapper = getattr(method, "applied", method).wrapper
    move(method)
    wrapper.save_pretrained(str(tmp_path), save_embedding_layers=False)
    model = make_decoder("llama")
    loaded = load_adapter(model, tmp_path)
    assert count_trainable(loaded) >= 0
    theirs = peft.PeftModel.from_pretrained(make_decoder("llama"), str(tmp_path)).eval()
    found = logits_of(theirs)[:, -TOKENS.shape[1] :]
    torch.testing.assert_close(logits_of(model), found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("word", ROWS)
def test_starts_come_from_the_seed_alone(word: str) -> None:
    one, other = make_decoder("llama"), make_decoder("llama")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = apply_peft(one, part_for(word), seed=3, steps=4)
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    second = apply_peft(other, part_for(word), seed=3, steps=4)
    assert first.trainable.keys() == second.trainable.keys()
    assert all(value.equal(second.trainable[name]) for name, value in first.trainable.items())
    assert all(value.dtype == torch.float32 for value in first.trainable.values())
    assert not any(f".{ADAPTER}" in name for name in first.trainable)


@pytest.mark.parametrize("word", [word for word in ROWS if word not in NOT_ON_META])
def test_the_table_counts_what_is_trained_of_the_catalogue_model(word: str) -> None:
    shape = AutoConfig.for_model(
        "llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape).requires_grad_(False)
        method = apply_peft(model, PeftMethod(type=word), seed=0, steps=10)  # pyright: ignore[reportArgumentType]
    assert count_trainable(method) == ROWS[word].values


@pytest.mark.parametrize("word", PROMPTS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "phi3", "gemma2"])
def test_generation_reads_the_prompt_as_training_does(
    tmp_path: Path, word: str, architecture: str
) -> None:
    folder = save_decoder(tmp_path, architecture)
    model, method = applied(word, architecture=architecture)
    move(method)
    shared = list(range(20, 32))
    prompts = [[*shared, 40, 41], [*shared, 50], [60, 61, 62]]
    engine = TorchEngine(model, load_tokenizer(folder))
    answers = engine.generate(prompts, max_new_tokens=6)
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = list(prompt)
        for expected in answer.tokens:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
            assert int(logits[0, -1].argmax()) == expected
            tokens.append(expected)
        assert answer.tokens
    with adapters_off(model):
        assert engine.generate(prompts, max_new_tokens=6) == TorchEngine(
            make_decoder(architecture), load_tokenizer(folder)
        ).generate(prompts, max_new_tokens=6)


@pytest.mark.parametrize("word", PROMPTS)
def test_a_prompt_takes_positions_from_an_answer(tmp_path: Path, word: str) -> None:
    folder = save_decoder(tmp_path, "llama")
    model, _ = applied(word)
    engine = TorchEngine(model, load_tokenizer(folder))
    (answer,) = engine.generate([list(range(20, 120))], max_new_tokens=100)
    assert len(answer.tokens) <= 128 - 100 - 5


def test_adalora_steps_as_the_library_does() -> None:
    """Its own forward with its penalty, torch's optimizer, its own allocation, four times."""
    model, method = applied("adalora")
    assert isinstance(method, RemembersSteps)
    theirs_model = make_decoder("llama")
    theirs: Any = apply_peft(theirs_model, part_for("adalora"), seed=3, steps=4)
    wrapper = theirs.applied.wrapper
    ours_optimizer = torch.optim.AdamW(method.trainable.values(), lr=1e-2, weight_decay=0)
    optimizer = torch.optim.AdamW(theirs.trainable.values(), lr=1e-2, weight_decay=0)
    ours = LanguageModel(decoder=model.model, head=model.lm_head)
    for step in range(1, 5):
        examples = make_examples([16, 12], seed=step)
        batch = to_batch(examples, pad_id=0)
        train_step(ours, method, ours_optimizer, [batch], learning_rate=1e-2, max_gradient_norm=1e9)
        loss = summed_loss(LanguageModel(theirs_model.model, theirs_model.lm_head), batch)
        factors = [
            value @ value.T if "lora_A" in name else value.T @ value
            for name, value in theirs.trainable.items()
            if "lora_A" in name or "lora_B" in name
        ]
        penalty = sum(torch.norm(gram - torch.eye(len(gram))) for gram in factors) / len(factors)
        (loss.total / loss.weight + 0.5 * penalty).backward()
        optimizer.step()
        wrapper.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    for name, value in method.trainable.items():
        torch.testing.assert_close(value, theirs.trainable[name], atol=1e-5, rtol=1e-4)
    zeros = [value for name, value in method.trainable.items() if "lora_E" in name]
    assert sum(int((value == 0).sum()) for value in zeros) == 4 * len(zeros), "12 ranks became 8"


def test_a_layer_that_a_method_cannot_take_is_refused_and_the_model_stays_as_it_was() -> None:
    model = make_decoder("gpt2")
    before = logits_of(model)
    with pytest.raises(RecipeError, match="loha cannot be applied") as caught:
        apply_peft(model, part_for("loha"), seed=0, steps=1)
    assert caught.value.code == "method_unsupported"
    assert logits_of(model).equal(before)
    assert not any(value.requires_grad for value in model.parameters())


def test_a_width_that_a_block_does_not_divide_is_refused_with_the_reason() -> None:
    part = PeftMethod(type="c3a", block_size=7)
    with pytest.raises(RecipeError, match=r"c3a cannot be applied to this model: .*7"):
        apply_peft(make_decoder("llama"), part, seed=0, steps=1)


def test_a_damaged_adapter_of_the_library_is_refused(tmp_path: Path) -> None:
    _, method = applied("ia3")
    method.save(tmp_path, base="some/base")
    with pytest.raises(ModelError, match="cannot be put onto this model"):
        load_adapter(make_decoder("llama", intermediate_size=64), tmp_path)
    weights = tmp_path / WEIGHTS_FILE
    held = safetensors.torch.load_file(weights)
    first, *rest = held
    safetensors.torch.save_file({name: held[name] for name in rest}, weights)
    with pytest.raises(ModelError, match="1 tensors are in one of them only"):
        load_adapter(make_decoder("llama"), tmp_path)
    safetensors.torch.save_file({**held, first: held[first] * float("nan")}, weights)
    with pytest.raises(ModelError, match=r"not finite \(NaN or infinite\) in 1 tensors"):
        load_adapter(make_decoder("llama"), tmp_path)
    weights.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="unreadable: Error while deserializing"):
        load_adapter(make_decoder("llama"), tmp_path)


def test_targets_and_what_is_left_out_of_them_are_the_recipe_s() -> None:
    part = PeftMethod(type="vera", targets="attention", exclude_targets=("*.0.*",))
    method = apply_peft(make_decoder("llama"), part, seed=0, steps=1)
    assert {name.rpartition(".")[0].rpartition(".")[0] for name in method.trainable} <= {
        "model.layers.1.self_attn",
    } | {f"model.layers.1.self_attn.{name}_proj" for name in "qkvo"}
    assert len(method.trainable) == 2 * 4


@pytest.mark.parametrize("targets", [None, ("k_proj", "v_proj", "down_proj")])
def test_ia3_leaves_out_what_the_recipe_does(targets: tuple[str, ...] | None) -> None:
    part = PeftMethod(type="ia3", targets=targets, exclude_targets=("*.0.*", "v_proj"))
    method = apply_peft(make_decoder("llama"), part, seed=0, steps=1)
    assert set(method.trainable) == {
        "model.layers.1.self_attn.k_proj.ia3_l",
        "model.layers.1.mlp.down_proj.ia3_l",
    }


def test_a_prefix_starts_small_so_that_the_model_is_not_thrown_off() -> None:
    method = apply_peft(make_decoder("llama"), part_for("prefix-tuning"), seed=0, steps=1)
    (value,) = method.trainable.values()
    assert 0.01 < float(value.detach().std()) < 0.03
