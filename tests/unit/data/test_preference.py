"""Preferences: one example an answer, whose prompts are the same and not trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.conversation import Message, Preference
from tunesmith.data.render import Example, prompt_tokens, render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import TextEncoder, Tokenizer, load_tokenizer
from tunesmith.recipe.data import DataPart


def part(**values: Any) -> DataPart:
    return DataPart(train="d.jsonl", **values)


def examples_of(sample: Preference, tokenizer: Tokenizer, **values: Any) -> tuple[Example, ...]:
    (rendered,) = render_all([sample], TextEncoder(tokenizer), part(**values), "preference")
    assert not isinstance(rendered, RowFault), rendered
    return rendered


def whole(example: Example, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(example.tokens.tolist())


def trained(example: Example, tokenizer: Tokenizer) -> str:
    return tokenizer.decode(example.tokens[example.weights > 0].tolist())


def preference(**answers: str | None) -> Preference:
    return Preference(
        prompt=(Message("user", "elm"),),
        **{
            word: None if text is None else (Message("assistant", text),)
            for word, text in answers.items()
        },
        row_id="d.jsonl:4",
        file="d.jsonl",
        line=4,
    )


def test_a_preference_is_one_example_an_answer_that_share_their_prompt(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    sample = preference(chosen="oak", rejected="\nash")
    chosen, rejected = examples_of(sample, tokenizer, train_on="last-assistant")
    assert (chosen.part, rejected.part) == ("chosen", "rejected")
    assert trained(chosen, tokenizer) == "oak<|im_end|>"
    assert trained(rejected, tokenizer) == "\nash<|im_end|>"
    prompt = prompt_tokens(sample, tokenizer, part(), "preference")
    assert prompt.reference == "oak"
    for example in (chosen, rejected):
        assert example.tokens[: len(prompt.tokens)].tolist() == prompt.tokens
        assert not example.weights[: len(prompt.tokens)].any()


@pytest.mark.parametrize("word", ["chosen", "rejected"])
def test_a_rated_answer_is_one_example(tmp_path: Path, word: str) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    sample = preference(**{"chosen": None, "rejected": None, word: "oak"})
    (example,) = examples_of(sample, tokenizer)
    assert example.part == word
    assert trained(example, tokenizer) == "oak<|im_end|>"


def test_replies_in_the_prompt_of_a_preference_are_not_trained(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path, "rewrites-earlier-turns"))
    sample = Preference(
        prompt=(Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
        chosen=(Message("assistant", "oak"),),
        rejected=(Message("assistant", "ash"),),
    )
    examples = examples_of(sample, tokenizer, system="Be brief")
    assert [trained(one, tokenizer) for one in examples] == ["oak<|im_end|>", "ash<|im_end|>"]
    assert all("Be brief" in whole(one, tokenizer) for one in examples)
