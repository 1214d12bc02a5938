from __future__ import annotations

from typing import Any

import pytest

from tests.unit.data.reading import chat, only_fault, said
from tunesmith.data.formats import find_format


@pytest.mark.parametrize(
    "values",
    [{"document": "long", "summary": "short"}, {"article": "long", "highlights": "short"},
     {"dialogue": "long", "summary": "short", "id": "1"}, {"text": "long", "summary": "short"}],
)  # fmt: skip
def test_a_document_and_its_summary(values: dict[str, Any]) -> None:
    assert said(chat(values).messages) == [
        ("user", "Summarize the text.\n\nlong"), ("assistant", "short"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ({"en": "a lake", "de": "ein See"}, {}),
        ({"translation": {"en": "a lake", "de": "ein See"}, "id": "7"}, {}),
        ({"en": "a lake", "x": 1, "de": "ein See"}, {"source": "en", "target": "de"}),
        ({"pair": {"en": "a lake", "de": "ein See"}}, {"source": "pair.en", "target": "pair.de"}),
    ],
)
def test_a_translation_is_named_by_its_languages(
    values: dict[str, Any], columns: dict[str, str]
) -> None:
    assert find_format(values, columns) == "translation"
    assert said(chat(values, columns=columns).messages) == [
        ("user", "Translate the text from English to German.\n\na lake"), ("assistant", "ein See"),
    ]  # fmt: skip


def test_the_first_column_is_translated_from_unless_the_recipe_says_otherwise() -> None:
    values = {"de": "ein See", "en": "a lake"}
    assert "from German to English" in chat(values).messages[0].content
    columns = {"source": "en", "target": "de"}
    assert "from English to German" in chat(values, columns=columns).messages[0].content


def test_languages_with_a_country_and_names_that_are_none() -> None:
    columns = {"source": "en_XX", "target": "my_MM"}
    sample = chat({"en_XX": "a", "my_MM": "b"}, columns=columns)
    assert sample.messages[0].content == "Translate the text from English to Burmese.\n\na"
    sample = chat({"source": "a", "target": "b"})
    assert sample.messages[0].content == "Translate the text.\n\na"


@pytest.mark.parametrize(
    "values", [{"id": "1", "text": "a"}, {"en": "a", "de": "b", "fr": "c"}, {"a": "x", "b": "y"}]
)
def test_other_columns_are_no_translation(values: dict[str, Any]) -> None:
    assert find_format(values) != "translation"


def test_an_empty_side_of_a_translation_is_a_fault() -> None:
    assert only_fault({"en": "a", "de": " "}).field == "de"


def test_a_text_and_what_follows_it() -> None:
    values = {"text": "Say hi.", "ground_truth": "hi"}
    assert find_format(values, task="chat") == "text-generation"
    assert said(chat(values).messages) == [("user", "Say hi."), ("assistant", "hi")]
