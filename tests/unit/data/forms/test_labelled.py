from __future__ import annotations

from typing import Any

import pytest

from tests.unit.data.reading import chat, only_fault, read, said
from tunesmith.data.conversation import Labelled, label_of
from tunesmith.data.formats import find_format
from tunesmith.data.forms.labelled import find_entities

CLASSIFY = "Classify the text. Answer with the label only."


def test_a_text_and_its_label_are_a_question_and_an_answer() -> None:
    sample = chat({"text": "late parcel", "label": "delivery"})
    assert said(sample.messages) == [
        ("user", f"{CLASSIFY}\n\nlate parcel"), ("assistant", "delivery"),
    ]  # fmt: skip
    assert label_of(sample) == "delivery"


def test_a_system_message_takes_the_place_of_the_instruction() -> None:
    values = {"text": "late parcel", "label": "delivery"}
    assert said(chat(values, has_system=True).messages)[0] == ("user", "late parcel")
    assert said(chat({**values, "system": "s"}).messages)[:2] == [
        ("system", "s"), ("user", "late parcel"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [{"sentence1": "a", "label": 1}, {"text": "a", "category": "x"},
     {"sentence": "a", "intent": "x"}, {"premise": "a", "hypothesis": "b", "label": 0},
     {"text": "a", "label": "x", "id": 1}],
)  # fmt: skip
def test_common_names_of_columns_are_known(values: dict[str, Any]) -> None:
    assert find_format(values, task="chat") == "classification"


def test_two_columns_that_may_be_the_label_leave_it_open() -> None:
    assert find_format({"text": "a", "category": "x", "intent": "y"}, task="chat") == "text"
    values = {"text": "a", "category": "x", "intent": "y"}
    assert label_of(chat(values, columns={"label": "intent", "text": "text"})) == "y"


def test_for_completion_a_labelled_text_is_a_text() -> None:
    assert find_format({"text": "a", "label": "x"}, task="completion") == "text"


def test_a_pair_is_two_texts() -> None:
    sample = chat({"sentence1": "a", "sentence2": "b", "label": 0})
    assert sample.messages[0].content == (
        "Classify the pair of texts. Answer with the label only.\n\nText 1: a\nText 2: b"
    )


@pytest.mark.parametrize(
    ("label", "text"), [("1", "1"), (1, "1"), (0, "0"), (True, "true"), ("praise", "praise")]
)
def test_a_class_is_its_text(label: object, text: str) -> None:
    sample = chat({"text": "a", "label": label})
    assert (label_of(sample), sample.messages[1].content) == (text, text)


@pytest.mark.parametrize(
    ("label", "found"),
    [(0.5, "got number"), (None, "got null"), ("", "an empty text")],
)
def test_no_class_is_a_fault(label: object, found: str) -> None:
    fault = only_fault({"text": "a", "label": label})
    assert (fault.field, fault.found) == ("label", found)


@pytest.mark.parametrize("labels", [["joy", "pride"], '["joy", "pride"]', ["joy", "pride", "joy"]])
def test_a_list_holds_all_classes_of_a_text(labels: object) -> None:
    sample = chat({"text": "we won", "labels": labels})
    assert sample.labelled is not None
    assert sample.labelled.labels == ("joy", "pride")
    assert sample.messages[1].content == "joy, pride"
    assert "all labels that apply" in sample.messages[0].content


def test_a_text_may_have_no_class_and_says_so() -> None:
    sample = chat({"text": "hm", "labels": []})
    assert sample.labelled == Labelled(kind="classes", texts=("hm",), labels=())
    assert sample.messages[1].content == "none"


def test_a_wrong_class_in_a_list_is_named() -> None:
    assert only_fault({"text": "a", "labels": ["b", 0.5]}).field == "labels[1]"


def test_of_a_pair_both_texts_are_kept() -> None:
    sample = chat({"premise": "a", "hypothesis": "b", "label": 0})
    assert sample.labelled == Labelled(kind="classes", texts=("a", "b"), labels=("0",))


ZAGREB = ["Zagreb", "is", "in", "Croatia", "."]


@pytest.mark.parametrize(
    "values",
    [
        {"tokens": ZAGREB, "tags": ["B-LOC", "O", "O", "B-LOC", "O"]},
        {"tokens": ZAGREB, "ner_tags": ["S-LOC", "O", "O", "U-LOC", "O"]},
        {"words": str(ZAGREB), "tags": "['B-LOC', 'O', 'O', 'B-LOC', 'O']"},
        {"tokens": '["Zagreb", "is", "in", "Croatia", "."]', "tags": ["LOC", "O", "O", "LOC", "O"]},
    ],
)
def test_entities_are_listed_one_on_a_line(values: dict[str, Any]) -> None:
    sample = chat(values)
    assert sample.messages[0].content.endswith("\n\nZagreb is in Croatia .")
    assert sample.messages[1].content == "LOC: Zagreb\nLOC: Croatia"


def test_tokens_and_tags_are_kept_in_one_scheme() -> None:
    sample = chat({"tokens": ZAGREB, "tags": ["S-LOC", "O", "O", "LOC", "O"]})
    assert sample.labelled == Labelled(
        kind="tags", texts=tuple(ZAGREB), labels=("B-LOC", "O", "O", "B-LOC", "O")
    )


def test_a_text_without_entities_says_so() -> None:
    assert chat({"tokens": ["a"], "tags": ["O"]}).messages[1].content == "none"


def test_tags_that_are_numbers_are_types_and_0_is_none() -> None:
    values = {"tokens": ZAGREB, "tags": [1, 0, 0, 1, 0]}
    assert chat(values).messages[1].content == "1: Zagreb\n1: Croatia"
    assert "0 is taken for no entity" in read(values).notes[0]


def test_as_many_tags_as_tokens() -> None:
    fault = only_fault({"tokens": ZAGREB, "tags": [1, 0, 0, 1]})
    assert (fault.field, fault.found) == ("tags", "5 tokens and 4 tags")


def test_a_token_that_shows_nothing_keeps_later_tags_in_place() -> None:
    tokens = ["Zagreb", "\u200b", "in", "Croatia"]
    sample = chat({"tokens": tokens, "tags": ["B-LOC", "O", "O", "B-LOC"]})
    assert sample.messages[1].content == "LOC: Zagreb\nLOC: Croatia"


@pytest.mark.parametrize(
    ("tokens", "tags", "field"),
    [
        ("a b", ["O"], "tokens"), (["a"], [None], "tags[0]"), (["a"], [0.5], "tags[0]"),
        (["a", 4], ["O", "O"], "tokens[1]"), (["a"], [True], "tags[0]"), ([], [], "tokens"),
        (["a\nb"], ["O"], "tokens[0]"), (["a"], "O", "tags"),
    ],
)  # fmt: skip
def test_wrong_tokens_and_tags_are_named(tokens: object, tags: object, field: str) -> None:
    assert only_fault({"tokens": tokens, "tags": tags}).field == field


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("B-A I-A O B-A", ["a b", "d"]), ("B-A B-A I-A O", ["a", "b c"]),
        ("I-A I-A I-B O", ["a b", "c"]), ("B-A I-A E-A I-A", ["a b c", "d"]),
        ("S-A S-A O O", ["a", "b"]), ("A A O A", ["a b", "d"]), ("A B B O", ["a", "b c"]),
    ],
)  # fmt: skip
def test_marks_say_where_an_entity_begins_and_ends(tags: str, entities: list[str]) -> None:
    assert [words for _, words in find_entities(list("abcd"), tags.split())] == entities
