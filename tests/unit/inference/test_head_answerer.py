from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.architectures import save_decoder
from tunesmith.data.conversation import Conversation, Labelled, Message
from tunesmith.data.example import Example
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.inference.head_answerer import HeadAnswerer
from tunesmith.inference.head_answers import HeadAnswer, answer_of_windows
from tunesmith.models.headed import Head, load_headed
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.model import ModelPart
from tunesmith.tasks.said import entities_of

HEADS = {
    "classes": Head("classes", ("a", "b", "c")),
    "tags": Head("tags", ("O", "B-X", "I-X")),
    "answers": Head("span", ("start", "end"), abstains=True),
}
ROWS = {
    "classes": [Labelled(kind="classes", texts=("one " * n,), labels=()) for n in (1, 7, 3)],
    "tags": [Labelled(kind="tags", texts=("Ana", "is", "x") * n, labels=()) for n in (1, 6, 2)],
    "answers": [
        Labelled(kind="answers", texts=("it is in Bled " * n, "where?"), labels=())
        for n in (1, 4, 2)
    ],
}


def samples(kind: str) -> list[Conversation]:
    turns = (Message("user", "q"), Message("assistant", ""))
    return [
        Conversation(messages=turns, labelled=row, row_id=f"r:{place}")
        for place, row in enumerate(ROWS[kind])
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder(tmp_path_factory.mktemp("model"), "llama")


def answerer(folder: Path, kind: str, **data: Any) -> HeadAnswerer:
    torch.manual_seed(0)
    headed = load_headed(folder, ModelPart(source="m", dtype="fp32"), HEADS[kind], seed=0)
    part = DataPart.model_validate({"train": "r", **data})
    return HeadAnswerer(headed, load_tokenizer(folder), part, batch_tokens=512)


@pytest.mark.parametrize("kind", HEADS)
def test_a_row_gets_the_same_answer_alone_and_beside_others(folder: Path, kind: str) -> None:
    one = answerer(folder, kind)
    asked = samples(kind)
    assert one.refuse(asked) == [None] * 3
    together = one.answer(asked, range(3))
    alone = [one.answer([sample], [0])[0] for sample in asked]
    for first, second in zip(together, alone, strict=True):
        assert first["answer"] == second["answer"]
        assert "reference" not in first
        for key in ("scores", "score"):
            if key in first:
                assert first[key] == pytest.approx(second[key], rel=1e-4)


def test_a_row_that_does_not_fit_or_says_nothing_is_refused(folder: Path) -> None:
    one = answerer(folder, "classes")
    turns = (Message("user", "q"), Message("assistant", ""))
    long = Conversation(
        messages=turns, labelled=Labelled(kind="classes", texts=("word " * 300,), labels=())
    )
    (fault,) = one.refuse([long])
    assert fault is not None
    assert "at most 128" in fault.expected


def test_the_reference_is_in_the_form_of_the_answer(folder: Path) -> None:
    turns = (Message("user", "q"), Message("assistant", ""))
    row = Labelled(kind="classes", texts=("one",), labels=("b",))
    (line,) = answerer(folder, "classes").answer([Conversation(messages=turns, labelled=row)], [0])
    assert line["reference"] == "b"


def test_entities_are_named_with_their_tokens() -> None:
    tokens = ("Ana", "saw", "Novi", "Sad", "Rio")
    labelled = Labelled(kind="tags", texts=tokens, labels=())
    found = entities_of(labelled, ["B-PER", "O", "B-LOC", "I-LOC", "I-PER"])
    assert found == [
        {"type": "PER", "words": "Ana", "start": 0, "end": 1},
        {"type": "LOC", "words": "Novi Sad", "start": 2, "end": 4},
        {"type": "PER", "words": "Rio", "start": 4, "end": 5},
    ]


def test_the_best_span_of_all_windows_wins(folder: Path) -> None:
    """As over the windows' own answers, and at its place in the whole context."""
    context = " ".join(f"it is in Bled{n} near {n}." for n in range(20))
    row = Labelled(kind="answers", texts=(context, "where?"), labels=())
    turns = (Message("user", "q"), Message("assistant", ""))
    sample = Conversation(messages=turns, labelled=row, row_id="r:0")
    one = answerer(folder, "answers", overflow="chunk", max_length=40, stride=10)
    assert one.refuse([sample]) == [None]
    whole = answerer(folder, "answers")
    (fault,) = whole.refuse([sample])
    assert fault is not None  # it is longer than the model reads
    (line,) = one.answer([sample], [0])
    start = line["start"]
    assert start is None or context[start:].startswith(line["answer"])


def test_a_windows_span_is_found_in_the_whole_row() -> None:
    tokens = np.zeros(5, dtype=np.int32)
    examples = [
        Example("r", "r", 1, tokens, np.ones(5, dtype=np.float32), skipped=skipped)
        for skipped in (0, 4, 8)
    ]
    said = [
        HeadAnswer(span=(1, 2), margin=1.0), HeadAnswer(span=(2, 3), margin=2.0),
        HeadAnswer(margin=-1.0),
    ]  # fmt: skip
    assert answer_of_windows(list(zip(examples, said, strict=True))).span == (6, 7)
    assert answer_of_windows([(examples[2], said[2])]).span is None
