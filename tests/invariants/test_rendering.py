"""Invariants 3, 4 and 5: what is trained of a row, by the template alone, as it is served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.templates import STAND_INS, Kind, make_stand_in
from tests.fakes.tiny import IM_END, TEMPLATES, make_tokenizer
from tunesmith.core.errors import DataError
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.pipeline import prepare_data
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.render import chat_prompt, prompt_tokens, render, render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.template import end_of_turn
from tunesmith.data.tokenizer import TextEncoder, load_tokenizer
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


# Two more print a reply otherwise than they ask for it, and are refused.
MASKABLE_STAND_INS = [name for name in STAND_INS if name not in ("deepseek-r1", "reverses")]
KINDS: tuple[Kind, ...] = (
    "bytes", "bytes-lines", "metaspace-first", "metaspace-always", "unigram", "wordpiece",
)  # fmt: skip


@pytest.mark.parametrize("name", MASKABLE_STAND_INS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", [None, "Be brief, 2 words."])
def test_every_trained_reply_of_every_template_follows_what_a_server_sends(
    tmp_path: Path, name: str, kind: Kind, system: str | None
) -> None:
    """The end of a turn is trained once a reply, and the tokens before a reply are the served."""
    tokenizer = load_tokenizer(make_stand_in(tmp_path / name, name, kind))
    encoder = TextEncoder(tokenizer)
    part = DataPart(train="rows.jsonl", system_role="fold", system=system)
    turns = TURNS if system is None else (Message("system", system), *TURNS)
    (examples,) = render_all([conversation(*TURNS)], encoder, part, "chat")
    assert not isinstance(examples, RowFault), examples
    (end_id,) = encoder.ids(end_of_turn(encoder) or "")
    served = [
        chat_prompt(turns[:at], tokenizer, system_role="fold")
        for at, turn in enumerate(turns)
        if turn.role == "assistant"
    ]
    first_trained: list[list[int]] = []
    num_ends = 0
    for example in examples:
        ids, is_trained = example.tokens.tolist(), example.weights > 0
        begins = np.flatnonzero(is_trained & ~np.roll(is_trained, 1))
        first_trained += [ids[:begin] for begin in begins]
        num_ends += int((example.tokens[is_trained] == end_id).sum())
        assert example.num_bos == int(encoder.automatic_bos is not None)
        assert not is_trained[0]
    assert first_trained == served
    assert num_ends == 2


def test_a_template_that_cannot_be_masked_exactly_is_an_error_and_no_guess(tmp_path: Path) -> None:
    assert "rewrites-earlier-turns" in TEMPLATES
    tokenizer = load_tokenizer(make_tokenizer(tmp_path, "rewrites-earlier-turns"))
    part = DataPart(train="rows.jsonl", unstable_template="error")
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        render(conversation(*TURNS), tokenizer, part, "chat")


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
    source = TokenizerSource(str(make_tokenizer(tmp_path / "model")))
    with pytest.raises(DataError, match="0 trainable tokens"):
        prepare_data(part, "chat", source, tell=lambda _: None)
