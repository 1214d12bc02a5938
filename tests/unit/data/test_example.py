"""The length limit: rows within it, cut, kept out, or cut into chunks that lose nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.conversation import Conversation, Message, PlainText
from tunesmith.data.example import fit
from tunesmith.data.render import render
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.recipe.data import DataPart

Make = Callable[..., Tokenizer]
ELM_OAK = Conversation(messages=(Message("user", "elm"), Message("assistant", "oak")))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def load(*, automatic_bos: bool = False) -> Tokenizer:
        return load_tokenizer(make_tokenizer(tmp_path / "tiny", automatic_bos=automatic_bos))

    return load


def part(**values: Any) -> DataPart:
    return DataPart(train="d.jsonl", **values)


def test_a_row_within_the_limit_is_left_alone(make: Make) -> None:
    example = render(ELM_OAK, make(), part(), "chat")
    length = len(example.tokens)
    assert fit(example, length, "error") == ((example,), 0, 0)


def test_a_row_over_the_limit_is_cut_or_kept_out_and_the_loss_is_counted(make: Make) -> None:
    example = render(ELM_OAK, make(), part(), "chat")
    length = len(example.tokens)
    assert fit(example, length - 3, "drop") == ((), length, 4)
    assert fit(example, length - 3, "error") == ((), length, 4)
    assert fit(example, length - 3, "chunk") == ((), length, 4)
    (cut,), lost, lost_supervised = fit(example, length - 3, "truncate")
    assert cut.tokens.tolist() == example.tokens[:-3].tolist()
    assert (len(cut.weights), lost, lost_supervised) == (length - 3, 3, 2)


@pytest.mark.parametrize("automatic_bos", [False, True])
@pytest.mark.parametrize("limit", [2, 3, 5, 8, 64])
def test_a_text_in_chunks_trains_each_token_once_after_the_one_before_it(
    make: Make, automatic_bos: bool, limit: int
) -> None:
    text = render(
        PlainText(text="abcdefghijklmnopqrs"), make(automatic_bos=automatic_bos), part(),
        "completion",
    )  # fmt: skip
    pieces, lost, lost_supervised = fit(text, limit, "chunk")
    assert (lost, lost_supervised) == (0, 0)
    assert all(len(piece.tokens) <= limit for piece in pieces)
    pairs = [
        (piece.tokens[at - 1], piece.tokens[at])
        for piece in pieces
        for at in np.flatnonzero(piece.weights)
    ]
    whole_text = text.tokens.tolist()
    assert pairs == list(itertools.pairwise(whole_text))
    begins_well = [piece.tokens[0] == 0 for piece in pieces]
    assert all(begins_well) == (automatic_bos and limit > 2)
    if len(pieces) > 1:
        assert [piece.part for piece in pieces][:2] == [
            f"chunk 1 of {len(pieces)}", f"chunk 2 of {len(pieces)}",
        ]  # fmt: skip


def test_chunks_keep_every_token_at_any_limit_and_a_cut_does_not(make: Make) -> None:
    tokenizer = make()
    text = "ab" * 25
    examples = [
        render(PlainText(text=text), tokenizer, part(end_token=False), "completion")
        for _ in range(100)
    ]
    assert {len(example.tokens) for example in examples} == {50}
    kept = {
        (how, limit): sum(
            one.supervised_tokens for each in examples for one in fit(each, limit, how).examples
        )
        for how in ("chunk", "truncate")
        for limit in (32, 64)
    }
    assert kept == {
        ("chunk", 32): 4900, ("chunk", 64): 4900, ("truncate", 32): 3100, ("truncate", 64): 4900,
    }  # fmt: skip
