from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.core.errors import DataError
from tunesmith.data.conversation import Conversation, Message, PromptCompletion
from tunesmith.data.render import prompt_tokens, render
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.candidates import Choice, render_candidates

PART = DataPart(train="rows.jsonl")
ASKED = Conversation(
    messages=(
        Message("user", "elm"),
        Message("assistant", "oak"),
        Message("user", "fir"),
    ),
    row_id="rows:1",
)
CANDIDATES = ("ash", "the other one", "in an elm")


@pytest.mark.parametrize("template", ["chatml", "chatml-default-system", "generation-marks"])
def test_a_candidate_has_the_tokens_of_the_row_in_which_it_is_the_reply(
    tmp_path: Path, template: str
) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path, template))
    (examples,) = render_candidates([Choice(ASKED, CANDIDATES)], tokenizer, PART)
    part = PART.model_copy(update={"train_on": "last-assistant"})
    for candidate, example in zip(CANDIDATES, examples, strict=True):
        messages = (*ASKED.messages, Message("assistant", candidate))
        row = Conversation(messages=messages, row_id="rows:1")
        expected = render(row, tokenizer, part, "chat")
        prompt = prompt_tokens(row, tokenizer, part, "chat").tokens
        assert example.tokens.tolist() == expected.tokens.tolist()
        assert example.tokens[: len(prompt)].tolist() == prompt
        assert not example.weights[: len(prompt)].any()
        counted = example.tokens[example.weights > 0].tolist()
        assert tokenizer.decode(counted, skip_special_tokens=False).startswith(
            f"{candidate}<|im_end|>"
        )


def test_the_reply_that_a_row_has_is_left_out_and_the_recipes_train_on_does_not_matter(
    tmp_path: Path,
) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    answered = Conversation(messages=(*ASKED.messages, Message("assistant", "yew")))
    part = PART.model_copy(update={"train_on": "all"})
    (of_row,) = render_candidates([Choice(answered, CANDIDATES)], tokenizer, part)
    (of_question,) = render_candidates([Choice(ASKED, CANDIDATES)], tokenizer, PART)
    for one, other in zip(of_row, of_question, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.weights.tolist() == other.weights.tolist()


@pytest.mark.parametrize("end_token", [True, False])
def test_a_completion_is_joined_to_the_prompt_without_a_template(
    tmp_path: Path, end_token: bool
) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    choice = Choice(PromptCompletion(prompt="Q: elm?\nA:", completion=""), (" ash", " oak tree"))
    part = PART.model_copy(update={"end_token": end_token})
    (examples,) = render_candidates([choice], tokenizer, part)
    for text, example in zip(choice.candidates, examples, strict=True):
        counted = example.tokens[example.weights > 0].tolist()
        end = "<|im_end|>" if end_token else ""
        assert tokenizer.decode(counted, skip_special_tokens=False) == text + end
        assert np.count_nonzero(example.weights) == example.supervised_tokens


def test_a_question_that_is_too_long_is_refused_and_never_cut(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    part = PART.model_copy(update={"max_length": 40})
    with pytest.raises(DataError, match=r"data\.max_length is 40"):
        list(render_candidates([Choice(ASKED, CANDIDATES)], tokenizer, part))
