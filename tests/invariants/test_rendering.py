"""Invariants 3, 4 and 5: what is trained of a row, by the template alone, as it is served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.tiny import IM_END, TEMPLATES, make_tokenizer
from tunesmith.core.errors import DataError
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.pipeline import load_data, render_data
from tunesmith.data.render import prompt_tokens, render
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.recipe.data import DataPart

MASKABLE = ["chatml", "chatml-default-system", "generation-marks", "prints-bos", "strips"]
PART = DataPart(train="rows.jsonl")
TURNS = (
    Message(role="user", content="Name a tree."),
    Message(role="assistant", content="elm"),
    Message(role="user", content="And another?"),
    Message(role="assistant", content="an old oak"),
)


def conversation(*messages: Message) -> Conversation:
    return Conversation(messages=messages, row_id="rows:1", file="rows.jsonl", line=1)


@pytest.mark.parametrize("template", MASKABLE)
@pytest.mark.parametrize("automatic_bos", [False, True])
def test_the_end_of_turn_is_trained_once_a_reply_and_there_is_at_most_one_bos(
    tmp_path: Path, template: str, automatic_bos: bool
) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path, template, automatic_bos=automatic_bos))
    example = render(conversation(*TURNS), tokenizer, PART, "chat")
    trained = example.tokens[example.weights > 0].tolist()
    text = tokenizer.decode(trained)
    assert text == f"elm{IM_END}an old oak{IM_END}"
    assert example.weights[0] == 0
    if automatic_bos:  # otherwise the begin token is the one that starts every turn
        bos = tokenizer.encode(tokenizer.bos_token, add_special_tokens=False)
        assert example.tokens.tolist().count(bos[0]) == 1


@pytest.mark.parametrize("template", MASKABLE)
def test_what_is_served_is_what_was_trained_token_for_token(tmp_path: Path, template: str) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path, template))
    row = conversation(*TURNS)
    example = render(row, tokenizer, PART, "chat")
    prompt, reference = prompt_tokens(row, tokenizer, PART, "chat")
    assert example.tokens[: len(prompt)].tolist() == prompt
    assert reference == "an old oak"
    assert (example.weights[len(prompt) : len(prompt) + 3] == 1).all()


def test_a_template_that_cannot_be_masked_exactly_is_an_error_and_no_guess(tmp_path: Path) -> None:
    assert "rewrites-earlier-turns" in TEMPLATES
    tokenizer = load_tokenizer(make_tokenizer(tmp_path, "rewrites-earlier-turns"))
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        render(conversation(*TURNS), tokenizer, PART, "chat")


def test_a_message_of_weight_0_is_read_and_not_trained(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    silent = Message(role="assistant", content="elm", weight=0)
    row = conversation(TURNS[0], silent, *TURNS[2:])
    plain = render(conversation(*TURNS), tokenizer, PART, "chat")
    example = render(row, tokenizer, PART, "chat")
    assert np.array_equal(example.tokens, plain.tokens)
    assert tokenizer.decode(example.tokens[example.weights > 0].tolist()) == f"an old oak{IM_END}"


def test_rows_that_train_nothing_stop_before_any_model_is_loaded(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    reply = {"role": "assistant", "content": "x", "weight": 0}
    questions = [{"role": "user", "content": str(number)} for number in range(4)]
    rows.write_text("".join(json.dumps({"messages": [q, reply]}) + "\n" for q in questions))
    part = DataPart(train=str(rows))
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "model"))
    with pytest.raises(DataError):
        render_data(load_data(part, "chat"), tokenizer, part, "chat")
