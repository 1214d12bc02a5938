from __future__ import annotations

from typing import Any

import pytest

from tests.unit.data.reading import chat, only_fault, read
from tunesmith.data.conversation import Conversation
from tunesmith.data.fields import TaskName
from tunesmith.data.forms.qa import NO_ANSWER

BASE = {"question": "Where?", "context": "It is in Bled, by the lake."}
SAME: list[dict[str, Any]] = [
    {"answers": {"text": ["Bled", "in Bled"], "answer_start": [9, 6]}},
    {"answers": [{"text": "Bled", "answer_start": 9}]},
    {"answers": {"text": "Bled", "answer_start": 9}},
    {"answers": "{'text': ['Bled'], 'answer_start': [9]}"},
    {"answers": '{"text": ["Bled"], "answer_start": [9]}'},
    {"answers": ["Bled"]},
    {"answers": "Bled"},
    {"answer": "Bled"},
    {"answers_text": ["Bled"], "answer_start": [9]},
    {"answer_text": "Bled", "answer_start": 9},
]


@pytest.mark.parametrize("answers", SAME)
def test_the_first_answer_is_learned(answers: dict[str, Any]) -> None:
    sample = chat({**BASE, **answers})
    assert sample.messages[0].content == (
        "Answer the question with words from the text.\n\n"
        "Text: It is in Bled, by the lake.\nQuestion: Where?"
    )
    assert sample.messages[1].content == "Bled"
    assert read({**BASE, **answers}).notes == ()


def test_the_keys_of_a_task_pipeline_are_understood() -> None:
    values = {"q": "Where?", "c": "In Bled.", "a": {"words": ["Bled"], "at": [3]}}
    columns = {
        "question": "q", "context": "c", "answers": "a", "answer_text": "words",
        "answer_start": "at",
    }  # fmt: skip
    assert chat(values, columns=columns).messages[1].content == "Bled"


def test_an_answer_that_is_not_at_its_place_is_told() -> None:
    values = {**BASE, "answers": {"text": ["Bled"], "answer_start": [0]}}
    assert read(values).notes == ("an answer that is not in the text at its answer_start",)


@pytest.mark.parametrize(
    ("answers", "field", "reason"),
    [
        ({"answer_start": [1]}, "answers.text", "no answer"),
        ({"text": [4]}, "answers.text[0]", "wrong type"),
        (4, "answers", "wrong type"),
        ("", "answers", "empty text"),
        (None, "answers", "no answer"),
    ],
)
def test_an_answer_that_is_missing_is_a_fault(answers: object, field: str, reason: str) -> None:
    fault = only_fault({**BASE, "answers": answers})
    assert (fault.field, fault.reason) == (field, reason)


@pytest.mark.parametrize(
    "row",
    [
        {"answers": {"text": [], "answer_start": []}},
        {"answers": "{'text': [], 'answer_start': []}"},
        {"answers": []},
        {"answers": [], "is_impossible": True},
        {"answers": None, "is_impossible": "true"},
    ],
)
@pytest.mark.parametrize("task", ["qa", "qa-head"])
def test_a_question_that_the_text_does_not_answer_is_learned_as_such(
    row: dict[str, Any], task: TaskName
) -> None:
    result = read({**BASE, **row}, task=task)
    assert isinstance(result.sample, Conversation), result.faults
    assert result.sample.messages[1].content == NO_ANSWER
    assert result.sample.labelled is not None
    assert result.sample.labelled.labels == ()
    assert result.notes == ("a question without an answer: to say so is learned",)


@pytest.mark.parametrize(
    ("answers", "is_impossible", "reason"),
    [(["Bled"], True, "an answer where there is none"), ([], False, "no answer")],
)
def test_answers_that_contradict_is_impossible_are_a_fault(
    answers: list[str], is_impossible: bool, reason: str
) -> None:
    fault = only_fault({**BASE, "answers": answers, "is_impossible": is_impossible})
    assert fault.reason == reason


def test_all_answers_and_their_places_are_kept() -> None:
    given = {"answers": {"text": ["Bled", "in Bled", "Bled"], "answer_start": [9, 6, 9]}}
    labelled = chat({**BASE, **given}).labelled
    assert labelled is not None
    assert labelled.texts == (BASE["context"], "Where?")
    assert (labelled.labels, labelled.starts) == (("Bled", "in Bled"), (9, 6))


def test_a_place_that_is_not_given_is_looked_up() -> None:
    labelled = chat({**BASE, "answers": ["by the lake", "Zagreb"]}).labelled
    assert labelled is not None
    assert labelled.starts == (15, -1)


def test_a_span_is_learned_from_words_of_the_text_only() -> None:
    row = {**BASE, "answers": ["Zagreb"]}
    assert read(row).faults == ()
    faults = read(row, task="qa-head").faults
    assert [fault.reason for fault in faults] == ["answer not in the text"]
