from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.conversation import Conversation, Message, PlainText, PromptCompletion
from tunesmith.data.render import render
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.ask import ask

PART = DataPart(train="rows.jsonl")


@pytest.fixture(name="tokenizer")
def tokenizer_fixture(tmp_path: Path) -> Tokenizer:
    return load_tokenizer(make_tokenizer(tmp_path))


def conversation(*turns: tuple[str, str]) -> Conversation:
    messages = tuple(Message(role, content) for role, content in turns)  # type: ignore[arg-type]
    return Conversation(messages=messages, row_id="rows.jsonl:1")


def test_a_conversation_is_asked_up_to_its_last_reply(tokenizer: Tokenizer) -> None:
    sample = conversation(
        ("system", "Be brief."), ("user", "elm?"), ("assistant", "oak"), ("user", "fir?"),
        ("assistant", "ash"),
    )  # fmt: skip
    question = ask(sample, tokenizer, PART)
    assert question.reference == "ash"
    assert question.prompt == "user: elm?\nassistant: oak\nuser: fir?"
    assert question.row_id == "rows.jsonl:1"


def test_one_user_message_is_shown_as_it_is(tokenizer: Tokenizer) -> None:
    sample = conversation(("system", "Be brief."), ("user", "elm?"), ("assistant", "oak"))
    assert ask(sample, tokenizer, PART).prompt == "elm?"


def test_what_is_asked_is_how_the_trained_row_begins(tokenizer: Tokenizer) -> None:
    sample = conversation(("user", "elm?"), ("assistant", "oak"))
    part = DataPart(train="rows.jsonl", system="Be brief.")
    tokens = ask(sample, tokenizer, part).tokens
    trained = render(sample, tokenizer, part, "chat")
    assert tuple(trained.tokens[: len(tokens)]) == tokens
    assert trained.weights[len(tokens)] == 1


def test_a_completion_is_asked_without_a_template(tokenizer: Tokenizer) -> None:
    sample = PromptCompletion(prompt="2 + 3 ", completion="=5", row_id="rows.jsonl:2")
    question = ask(sample, tokenizer, PART)
    assert (question.prompt, question.reference) == ("2 + 3 ", "=5")
    assert tokenizer.decode(question.tokens) == "2 + 3 "


def test_a_plain_text_is_asked_by_its_first_half(tokenizer: Tokenizer) -> None:
    question = ask(PlainText(text="abcdefgh"), tokenizer, PART)
    assert question.prompt + question.reference == "abcdefgh"
    assert question.prompt
    assert question.reference
