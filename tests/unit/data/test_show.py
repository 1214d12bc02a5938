"""Pieces of an example as text: joined they are the text, with any tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.templates import Kind, make_stand_in
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.render import render
from tunesmith.data.show import show_example
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.recipe.data import DataPart


@pytest.mark.parametrize("kind", ["bytes", "metaspace-first", "metaspace-always", "unigram"])
def test_pieces_joined_are_the_text_with_its_spaces(tmp_path: Path, kind: Kind) -> None:
    tokenizer = load_tokenizer(make_stand_in(tmp_path, "llama-2", kind))
    sample = Conversation(messages=(Message("user", "an elm"), Message("assistant", "the oak is")))
    example = render(sample, tokenizer, DataPart(train="d"), "chat")
    pieces = show_example(example, tokenizer)
    assert "".join(piece.text for piece in pieces) == tokenizer.decode(example.tokens.tolist())
    assert "".join(piece.text for piece in pieces if piece.weight) == " the oak is </s>"
    assert [token for piece in pieces for token in piece.tokens] == example.tokens.tolist()
