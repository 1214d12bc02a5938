from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import language_model, make_llama
from tunesmith.data.conversation import Conversation, Message, Sample
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.evaluation.label_answerer import LabelAnswerer
from tunesmith.evaluation.label_choice import choose_labels, label_log_probs
from tunesmith.inference.precision import exact_answers
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.ask import ask
from tunesmith.training.loss import LanguageModel

LABELS = ("ab", "ef", "xy", "longest label")
PART = DataPart(train="rows.jsonl", max_length=200)


@pytest.fixture(name="tokenizer")
def tokenizer_fixture(tmp_path: Path) -> Tokenizer:
    return load_tokenizer(make_tokenizer(tmp_path / "tokenizer"))


@pytest.fixture(name="model")
def model_fixture(tokenizer: Tokenizer) -> LanguageModel:
    return language_model(make_llama(vocab_size=len(tokenizer)))


def rows(count: int, answer: str = "") -> list[Sample]:
    return [
        Conversation(
            messages=(
                Message("user", f"text {number} " + "elm " * (number % 5)),
                Message("assistant", answer),
            ),
            row_id=f"rows.jsonl:{number}", file="rows.jsonl", line=number,
        )
        for number in range(1, count + 1)
    ]  # fmt: skip


def answerer(model: LanguageModel, tokenizer: Tokenizer, **changes: Any) -> LabelAnswerer:
    options: dict[str, Any] = {"part": PART, "labels": LABELS, "batch_tokens": 2048, **changes}
    return LabelAnswerer(model=model, tokenizer=tokenizer, **options)


def test_the_answer_is_the_one_that_the_evaluation_chooses(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    asked = rows(24)
    questions = [ask(row, tokenizer, PART) for row in asked]
    chosen = choose_labels(model, questions, asked, LABELS, tokenizer, data=PART, pad_id=0)
    lines = answerer(model, tokenizer).answer(asked, range(24))
    assert [line["answer"] for line in lines] == [one.text for one in chosen]
    assert len({line["answer"] for line in lines}) > 1
    for line in lines:
        assert [*line] == ["answer", "scores"]
        assert line["answer"] == max(line["scores"], key=line["scores"].__getitem__)
        assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-3)


def test_answers_do_not_depend_on_company_nor_on_the_rows_own_answer(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    together = answerer(model, tokenizer).answer(rows(24), range(24))
    alone = [answerer(model, tokenizer, batch_tokens=1).answer([row], [0])[0] for row in rows(24)]
    for one, other in zip(together, alone, strict=True):
        assert one["answer"] == other["answer"]
        assert one["scores"] == pytest.approx(other["scores"], abs=2e-4)
    given = answerer(model, tokenizer).answer(rows(24, "ef"), range(24))
    assert {line.pop("reference") for line in given} == {"ef"}
    assert given == together


def test_a_model_in_16_bits_chooses_as_its_copy_in_32_bits(tokenizer: Tokenizer) -> None:
    model, told = make_llama(vocab_size=len(tokenizer), dtype=torch.bfloat16), list[str]()

    def log_probs() -> np.ndarray:
        scored = language_model(model)
        found = label_log_probs(scored, rows(6), LABELS, tokenizer, data=PART, pad_id=0)
        return np.stack(found)

    rounded = log_probs()
    with exact_answers(model, told.append):
        exact = log_probs()
    assert not np.allclose(exact, rounded, atol=1e-4)
    model.float()
    np.testing.assert_array_equal(exact, log_probs())


def test_a_row_that_does_not_fit_with_every_label_is_refused(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    row = rows(1)[0]
    length = len(ask(row, tokenizer, PART).tokens)
    ready = answerer(
        model, tokenizer, part=PART.model_copy(update={"max_length": length + len("ab") + 1})
    )
    (fault,) = ready.refuse([row])
    assert fault is not None, "the longest label does not fit"
    assert fault.line == 1
    fits = PART.model_copy(update={"max_length": length + len("longest label") + 9})
    assert answerer(model, tokenizer, part=fits).refuse([row]) == [None]


def test_many_labels_are_few_rows_at_once(model: LanguageModel, tokenizer: Tokenizer) -> None:
    assert answerer(model, tokenizer).rows_at_once == 512
    many = tuple(f"label {number}" for number in range(400))
    assert answerer(model, tokenizer, labels=many).rows_at_once == 20
