"""Begin, end and padding tokens of the recipe's choice, and the model folder they come with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.templates import make_stand_in
from tests.fakes.tiny import make_tokenizer
from tunesmith.core.errors import ModelError
from tunesmith.data.conversation import PromptCompletion
from tunesmith.data.render import render
from tunesmith.data.tokenizer import TextEncoder, load_tokenizer
from tunesmith.recipe.data import DataPart

PART = DataPart(train="d.jsonl")


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_special_tokens_of_the_recipe_take_the_place_of_the_models(tmp_path: Path) -> None:
    folder = make_stand_in(tmp_path / "model", "llama-3")
    special = {"eos": "<|end_header_id|>", "pad": "<|eot_id|>"}
    tokenizer = load_tokenizer(folder, special_tokens=special)
    sample = PromptCompletion(prompt="a", completion="b")
    example = render(sample, tokenizer, PART, "completion")
    assert tokenizer.decode(example.tokens.tolist()) == "<|begin_of_text|>ab<|end_header_id|>"
    assert (example.num_bos, example.weights.tolist()) == (1, [0.0, 0.0, 1.0, 1.0])
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = load_tokenizer(tmp_path / "saved")
    assert (saved.eos_token, saved.pad_token) == ("<|end_header_id|>", "<|eot_id|>")
    again = render(sample, saved, PART, "completion")
    assert again.tokens.tolist() == example.tokens.tolist()


def test_another_begin_token_is_put_where_the_model_puts_its_own(tmp_path: Path) -> None:
    folder = make_stand_in(tmp_path / "model", "llama-3")
    tokenizer = load_tokenizer(folder, special_tokens={"bos": "<|eot_id|>"})
    sample = PromptCompletion(prompt="a", completion="b")
    assert tokenizer.decode(render(sample, tokenizer, PART, "completion").tokens.tolist()) == (
        "<|eot_id|>ab<|eot_id|>"
    )
    tokenizer.save_pretrained(tmp_path / "saved")
    saved = load_tokenizer(tmp_path / "saved")
    assert TextEncoder(saved).automatic_bos == saved.bos_token_id == tokenizer.bos_token_id


def test_a_plain_word_of_the_vocabulary_can_be_the_end_token(tmp_path: Path) -> None:
    folder = make_tokenizer(tmp_path / "model")
    tokenizer = load_tokenizer(folder, special_tokens={"eos": "<turn_end>"})
    example = render(
        PromptCompletion(prompt="a", completion="b<turn_end>"), tokenizer, PART, "completion"
    )
    assert tokenizer.decode(example.tokens[example.weights > 0].tolist()) == "b<turn_end>"


def test_a_special_token_that_the_model_does_not_have_is_refused_with_near_names(
    tmp_path: Path,
) -> None:
    folder = make_stand_in(tmp_path / "model", "llama-3")
    with pytest.raises(ModelError) as caught:
        load_tokenizer(folder, special_tokens={"eos": "<|eot|>", "pad": "<|begin_text|>"})
    first, second = caught.value.faults
    assert first.where == "model.special_tokens.eos"
    assert "<|eot_id|>" in first.fix
    assert "<|begin_of_text|>" in second.fix
