"""Rows without their answers: the prompt is what training rendered, token for token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.asked import (
    AskedRows,
    FaultyRow,
    asked_rows,
    reading_record,
    trained_reading,
)
from tunesmith.data.conversation import Sample
from tunesmith.data.formats import FORMATS, FormatName, TaskName, to_sample
from tunesmith.data.render import prompt_tokens, render_all
from tunesmith.data.rows import DataFile, Row, RowFault
from tunesmith.data.source import find_files
from tunesmith.data.tokenizer import Tokenizer, encoder_of, load_tokenizer
from tunesmith.data.validate import judge
from tunesmith.recipe.data import DataPart

PART = DataPart(train="train.jsonl")
EARLIER = [
    {"role": "user", "content": "elm?"},
    {"role": "assistant", "content": "oak"},
    {"role": "user", "content": "fir?"},
]
# Form, task, a row as training has it, and the columns that may be absent.
WHOLE: list[tuple[FormatName, TaskName, dict[str, Any], tuple[str, ...]]] = [
    ("alpaca", "chat", {"instruction": "add", "input": "1 2", "output": "3"}, ("output",)),
    ("alpaca", "completion", {"instruction": "add", "output": "3"}, ("output",)),
    ("prompt-completion", "chat", {"prompt": "elm?", "completion": "oak"}, ("completion",)),
    ("prompt-completion", "chat", {"prompt": EARLIER, "completion": "ash"}, ("completion",)),
    ("prompt-completion", "completion", {"prompt": "2+3", "completion": "=5"}, ("completion",)),
    ("qa", "chat", {"question": "who?", "context": "Ada did", "answers": ["Ada"]}, ("answers",)),
    ("qa", "qa", {"question": "who?", "context": "Ada did", "answer_text": "Ada"},
     ("answer_text",)),
    ("multiple-choice", "chat", {"question": "who?", "choices": ["Ada", "Bob"], "answer": 0},
     ("answer",)),
    ("ner", "ner", {"tokens": ["Ada", "did"], "ner_tags": ["B-PER", "O"]}, ("ner_tags",)),
    ("entities", "ner", {"text": "Ada did.", "entities": [[0, 3, "PER"]]}, ("entities",)),
    ("summarization", "chat", {"article": "long text", "highlights": "short"}, ("highlights",)),
    ("text-generation", "chat", {"text": "a", "ground_truth": "b"}, ("ground_truth",)),
    ("classification", "chat", {"text": "late parcel", "intent": "delivery"}, ("intent",)),
    ("classification", "classification", {"text": "late", "labels": ["a", "b"]}, ("labels",)),
    ("classification", "chat", {"premise": "a", "hypothesis": "b", "label": 1}, ("label",)),
    ("translation", "translation", {"en": "a tree", "de": "ein Baum"}, ("de",)),
    ("text", "completion", {"text": "once upon a time"}, ()),
    ("preference", "preference", {"prompt": "elm?", "chosen": "oak", "rejected": "ash"},
     ("chosen", "rejected")),
    ("preference", "preference", {"prompt": "elm?", "completion": "oak", "label": True},
     ("completion", "label")),
]  # fmt: skip
REPLY = {"role": "assistant", "content": "ash"}
# The same where the answer is a part of a column.
ENDING: list[tuple[FormatName, TaskName, dict[str, Any], dict[str, Any]]] = [
    ("messages", "chat", {"messages": [*EARLIER, REPLY]}, {"messages": EARLIER}),
    ("sharegpt", "chat",
     {"conversations": [{"from": "human", "value": "elm?"}, {"from": "gpt", "value": "oak"}]},
     {"conversations": [{"from": "human", "value": "elm?"}]}),
    ("preference", "preference", {"messages": [*EARLIER, REPLY], "rejected_messages": [REPLY]},
     {"messages": EARLIER}),
]  # fmt: skip
ALL = [
    *((form, task, row, {k: v for k, v in row.items() if k not in lost})
      for form, task, row, lost in WHOLE),
    *ENDING,
]  # fmt: skip


@pytest.fixture(name="tokenizer")
def tokenizer_fixture(tmp_path: Path) -> Tokenizer:
    return load_tokenizer(make_tokenizer(tmp_path / "tokenizer"))


def write(folder: Path, *rows: object) -> tuple[DataFile, ...]:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tuple(find_files(str(file)))


def read(
    folder: Path,
    trained_row: dict[str, Any],
    *rows: object,
    task: TaskName = "chat",
    part: DataPart = PART,
) -> AskedRows:
    """Rows, to be read as `trained_row` was."""
    trained = judge([Row("train.jsonl", 1, trained_row, 1)], PART, task, file="train.jsonl")
    assert trained.unsuitable is None
    record = json.loads(json.dumps(reading_record(trained)))
    reading = trained_reading(record, file="train.jsonl")
    return asked_rows(write(folder, *rows), part, task, reading, source="rows.jsonl")


def only(rows: AskedRows) -> Sample:
    (row,) = rows
    assert not isinstance(row, FaultyRow), row
    return row


def trained_tokens(row: Sample, tokenizer: Tokenizer, task: TaskName) -> Iterator[list[int]]:
    for rendered in render_all([row], encoder_of(tokenizer), PART, task):
        assert not isinstance(rendered, RowFault)
        for example in rendered:
            assert example.weights.any()
            yield example.tokens.tolist()


def test_every_form_is_asked_here() -> None:
    assert {form for form, *_ in ALL} == set(FORMATS)


@pytest.mark.parametrize(("form", "task", "whole", "asked"), ALL)
def test_a_row_without_its_answer_is_asked_as_training_rendered_it(
    tmp_path: Path,
    tokenizer: Tokenizer,
    form: FormatName,
    task: TaskName,
    whole: dict[str, Any],
    asked: dict[str, Any],
) -> None:
    trained = judge([Row("t.jsonl", 1, whole, 1)], PART, task, file="t.jsonl")
    assert trained.form == form
    sample = only(read(tmp_path, whole, asked, task=task))
    prompt = prompt_tokens(sample, tokenizer, PART, task)
    assert prompt.reference == ""
    learned = to_sample(Row("t.jsonl", 1, whole, 1), form, task)
    assert not isinstance(learned, list)
    for tokens in trained_tokens(learned, tokenizer, task):
        assert tokens[: len(prompt.tokens)] == prompt.tokens
        assert len(tokens) > len(prompt.tokens)


@pytest.mark.parametrize(("form", "task", "whole", "asked"), ALL)
def test_an_answer_that_is_there_stays_out_of_the_prompt_and_is_the_reference(
    tmp_path: Path,
    tokenizer: Tokenizer,
    form: FormatName,
    task: TaskName,
    whole: dict[str, Any],
    asked: dict[str, Any],
) -> None:
    without = prompt_tokens(only(read(tmp_path, whole, asked, task=task)), tokenizer, PART, task)
    given = prompt_tokens(only(read(tmp_path, whole, whole, task=task)), tokenizer, PART, task)
    assert given.tokens == without.tokens
    assert bool(given.reference) == (form != "text"), "a text goes on, and holds no answer"


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_an_empty_answer_is_none(tmp_path: Path, tokenizer: Tokenizer, nothing: object) -> None:
    trained = {"text": "late parcel", "intent": "delivery"}
    sample = only(read(tmp_path, trained, {"text": "late parcel", "intent": nothing}))
    assert prompt_tokens(sample, tokenizer, PART, "chat").reference == ""


def test_no_class_at_all_is_an_answer_where_texts_have_several(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    trained = {"text": "late parcel", "labels": ["a"]}
    sample = only(read(tmp_path, trained, {"text": "x", "labels": []}))
    assert prompt_tokens(sample, tokenizer, PART, "chat").reference == "none"


def test_a_rating_that_is_bad_makes_no_reference(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rated = {"prompt": "elm?", "completion": "oak", "label": False}
    sample = only(read(tmp_path, rated, rated, task="preference"))
    assert prompt_tokens(sample, tokenizer, PART, "preference").reference == ""


def test_a_column_under_another_name_is_read_as_the_one_of_training(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    part = DataPart.model_validate({"train": "rows.jsonl", "columns": {"source": "text"}})
    trained = {"en": "a tree", "de": "ein Baum"}
    sample = only(read(tmp_path, trained, {"text": "a tree"}, task="translation", part=part))
    same = only(read(tmp_path, trained, {"en": "a tree"}, task="translation"))
    assert prompt_tokens(sample, tokenizer, PART, "chat") == prompt_tokens(
        same, tokenizer, PART, "chat"
    )


def test_a_missing_question_is_one_fault_of_the_file(tmp_path: Path) -> None:
    trained = {"text": "late parcel", "intent": "delivery"}
    tally = read(tmp_path, trained, *[{"txt": "a"}] * 3).check()
    (fault,) = tally.file_faults
    assert fault.found == 'the file has no column "text"'
    assert "data.columns.sentence1" in fault.fix
    assert not tally.row_faults
    assert (tally.rows_read, tally.rows_usable) == (3, 0)


def test_faulty_rows_stay_in_their_places(tmp_path: Path) -> None:
    trained = {"prompt": "elm?", "completion": "oak"}
    rows = read(tmp_path, trained, {"prompt": "a"}, {"prompt": 4}, {}, {"prompt": "b"})
    ids = [row.row_id for row in rows]
    assert ids == [f"rows.jsonl:{line}" for line in (1, 2, 3, 4)]
    assert [isinstance(row, FaultyRow) for row in rows] == [False, True, True, False]
    assert rows.check().num_row_faults == 2


def judged(folder: Path, row: object, task: TaskName | None = "chat") -> AskedRows:
    """A row for a model of which no training is known."""
    return asked_rows(write(folder, row), PART, task, source="rows.jsonl")


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"prompt": "a"}, "prompt-completion"),
        ({"instruction": "a", "input": "b"}, "alpaca"),
        ({"question": "a", "context": "b"}, "qa"),
        ({"messages": EARLIER}, "messages"),
        ({"conversations": EARLIER}, "sharegpt"),
        ({"article": "a"}, "summarization"),
        ({"tokens": ["a"]}, "ner"),
        ({"text": "a", "label": "b"}, "classification"),
        ({"en": "a", "de": "b"}, "translation"),
    ],
)
def test_a_form_is_found_without_its_answers(
    tmp_path: Path, row: dict[str, Any], form: FormatName
) -> None:
    rows = judged(tmp_path, row)
    assert rows.judgement.unsuitable is None
    assert rows.judgement.form == form
    only(rows)


def test_a_text_alone_leaves_the_form_open_unless_texts_are_gone_on_with(tmp_path: Path) -> None:
    fault = judged(tmp_path, {"text": "a"}).judgement.unsuitable
    assert fault is not None
    assert "summarization, text-generation, classification" in fault.found
    assert judged(tmp_path, {"text": "a"}, "completion").judgement.form == "text"
    assert judged(tmp_path, {"text": "a"}, None).judgement.form == "text"


def test_a_form_may_be_named(tmp_path: Path) -> None:
    part = DataPart.model_validate(
        {
            "train": "rows.jsonl",
            "format": "translation",
            "columns": {"source": "en", "target": "de"},
        }
    )
    rows = asked_rows(write(tmp_path, {"en": "a"}), part, "chat", source="rows.jsonl")
    sample = only(rows)
    assert "from English to German" in str(sample)
