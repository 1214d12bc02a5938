from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama
from tests.unit.evaluation.test_compare import language_model
from tunesmith.data.conversation import Conversation, Labelled, Message
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.evaluation import multiple_choice
from tunesmith.evaluation.multiple_choice import choose_candidates, have_candidates
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.ask import ask
from tunesmith.tasks.scores.choices import Likelihoods

PART = DataPart(train="rows.jsonl")
ROW = Conversation(
    messages=(Message("user", "Which?"), Message("assistant", "a")),
    labelled=Labelled(
        kind="choices",
        texts=("a", "b", "c", "d"),
        labels=("best", "right", "wrong", "wrong"),
    ),
    row_id="rows.jsonl:1",
)


def test_candidates_are_scored_as_truthfulqa_defines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    found = Likelihoods(np.log([0.20, 0.10, 0.15, 0.05]), np.array([3, 3, 3, 3]))
    monkeypatch.setattr(multiple_choice, "log_likelihoods", lambda *_, **__: [found])
    model = language_model(make_llama(vocab_size=300))
    (answer,), (said,) = choose_candidates(
        model, [ask(ROW, tokenizer, PART)], [ROW], tokenizer, data=PART, pad_id=0
    )
    assert (answer.text, answer.reference) == ("a", "a")
    assert said.right == ("a", "b")
    assert said.values["mc1"] == 1.0
    assert said.values["mc2"] == pytest.approx(0.6)


def test_the_candidates_are_read_by_the_model(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path))
    rows = [ROW, ROW]
    model = language_model(make_llama(vocab_size=len(tokenizer)))
    questions = [ask(row, tokenizer, PART) for row in rows]
    answers, said = choose_candidates(model, questions, rows, tokenizer, data=PART, pad_id=0)
    assert answers[0] == answers[1]
    assert answers[0].text in ROW.labelled.texts  # type: ignore[union-attr]
    assert 0 < said[0].values["mc2"] < 1
    assert have_candidates(rows)
    assert not have_candidates([Conversation(messages=ROW.messages)])
    assert not have_candidates([])
