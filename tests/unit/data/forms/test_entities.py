from __future__ import annotations

from typing import Any

import pytest

from tests.unit.data.reading import chat, only_fault, read
from tunesmith.data.conversation import Labelled
from tunesmith.data.fields import TaskName
from tunesmith.data.forms.entities import words_of
from tunesmith.tasks.said import entities_of, tags_of

TEXT = "Ana Lee flew to Rio, then\nhome."
PLACES = [(0, 7, "PER"), (16, 19, "LOC")]
TAGS = ("B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "O", "O")


def labelled(values: dict[str, Any], task: TaskName = "ner") -> Labelled:
    found = chat(values, task=task).labelled
    assert found is not None
    return found


@pytest.mark.parametrize(
    "values",
    [
        {"entities": [{"start": a, "end": b, "label": kind} for a, b, kind in PLACES]},
        {"spans": [{"start": a, "end": b, "label": kind} for a, b, kind in reversed(PLACES)]},
        {"entities": [list(place) for place in PLACES]},
        {"entities": '[[0, 7, "PER"], [16, 19, "LOC"]]'},
    ],
)
@pytest.mark.parametrize("task", ["ner", "ner-head"])
def test_entities_by_place_become_tags_of_the_words(values: dict[str, Any], task: TaskName) -> None:
    row = labelled({"text": TEXT, **values}, task)
    assert row.texts == ("Ana", "Lee", "flew", "to", "Rio", ",", "then", "home", ".")
    assert (row.labels, row.whole) == (TAGS, TEXT)
    assert all(TEXT.startswith(*each) for each in zip(row.texts, row.starts, strict=True))


def test_the_text_is_asked_as_it_is_and_entities_are_said_in_its_words() -> None:
    sample = chat({"text": TEXT, "entities": [list(one) for one in PLACES]}, task="ner")
    assert sample.messages[0].content.endswith(f"\n\n{TEXT}")
    assert sample.messages[1].content == "PER: Ana Lee\nLOC: Rio"
    nothing = chat({"text": TEXT, "entities": []}, task="ner")
    assert nothing.messages[1].content == "none"


@pytest.mark.parametrize(
    ("entity", "reason", "fix"),
    [
        ([16, 18, "LOC"], "an entity cuts a word", "write 16 and 19"),
        ([17, 19, "LOC"], "an entity cuts a word", "write 16 and 19"),
        ([4, 12, "PER"], "entities that overlap", "keep one of the two"),
        ([30, 40, "LOC"], "an entity that is not in the text", "correct start and end"),
        ([19, 19, "LOC"], "an entity that is not in the text", "correct start and end"),
        ([25, 26, "LOC"], "an entity that is not in the text", "correct start and end"),
        ([-3, 3, "LOC"], "an entity that is not in the text", "correct start and end"),
        (["16", 19, "LOC"], "no entity", "write start and end as integers"),
        ([True, 3, "LOC"], "no entity", "write start and end as integers"),
        ([16, 19], "no entity", "write start and end as integers"),
        ({"start": 16, "label": "LOC"}, "no entity", "write start and end as integers"),
        ("Rio", "no entity", "write start and end as integers"),
        ([16, 19, ""], "empty text", ""),
        ([16, 19, 3], "wrong type", "put it in quotes"),
    ],
)
def test_an_entity_that_is_none_is_a_fault_with_its_remedy(
    entity: object, reason: str, fix: str
) -> None:
    values = {"text": TEXT, "entities": [[0, 7, "PER"], entity]}
    fault = only_fault(values)
    assert (fault.reason, fault.field) == (reason, "entities[1]")
    assert fix in fault.fix


def test_every_fault_of_a_row_is_told() -> None:
    faults = read({"text": TEXT, "entities": [[1, 7, "PER"], [16, 18, "LOC"]]}).faults
    assert [fault.reason for fault in faults] == ["an entity cuts a word"] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("In Rio, 7-8pm", "In|Rio|,|7|-|8pm"),
        ("don't  \u00e9t\u00e9 e\u0301t", "don|'|t|\u00e9t\u00e9|e\u0301t"),
        ("a_b $1.50", "a_b|$|1|.|50"),
        ("\u5317\u4eac2008\u5e74", "\u5317|\u4eac|2008|\u5e74"),
    ],
)
def test_words_are_runs_and_other_characters_one_by_one(text: str, words: str) -> None:
    found = words_of(text)
    assert [word for word, _ in found] == words.split("|")
    assert all(text.startswith(*each) for each in found)


def test_written_entities_are_looked_up_by_the_words_of_the_text() -> None:
    row = labelled({"text": "It costs $1.50 (Rio).", "entities": []})
    tags, lost = tags_of("SUM: $1.50\nLOC: Rio", row)
    assert lost == 0
    assert entities_of(row, tags) == [
        {"type": "SUM", "words": "$1.50", "start": 9, "end": 14},
        {"type": "LOC", "words": "Rio", "start": 16, "end": 19},
    ]
