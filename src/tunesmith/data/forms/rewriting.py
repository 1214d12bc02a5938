"""A text and what is made of it: its summary, its translation, or what is to follow it.

Each becomes a question and its answer, with a short instruction that gives way to `data.system`.
The columns of a translation are named by their languages, and the one that comes first in the file
is the one translated from; `data.columns` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from tunesmith.data.conversation import Sample
from tunesmith.data.fields import Columns, FieldReader
from tunesmith.data.forms.form import Column, Format, Values, fit_columns
from tunesmith.data.forms.labelled import SYSTEM, ask
from tunesmith.data.forms.languages import LANGUAGES, language_name

_NESTED = "translation"  # the usual name of a column that holds both languages


def _read_summarization(reader: FieldReader) -> Sample:
    document = reader.text("document", may_be_empty=False)
    summary = reader.answer("summary")
    return ask(reader, "Summarize the text.", document, summary)


def _read_translation(reader: FieldReader) -> Sample:
    source = reader.text("source", may_be_empty=False)
    target = reader.answer("target")
    languages = [language_name(reader.name(word)) for word in ("source", "target")]
    known = [language for language in languages if language]
    direction = f" from {known[0]} to {known[1]}" if len(known) == 2 else ""
    return ask(reader, f"Translate the text{direction}.", source, target)


def _read_text_generation(reader: FieldReader) -> Sample:
    text = reader.text("text", may_be_empty=False)
    return ask(reader, "", text, reader.answer("ground_truth"))


def _fit_translation(form: Format, values: Values, given: Columns) -> Columns | None:
    if "source" in given or "target" in given or not form.knows(given):
        return fit_columns(form, values, given)
    if set(values) == {"source", "target"}:
        return form.named(given)
    nested = values.get(_NESTED)
    if isinstance(nested, Mapping):
        pair = [f"{_NESTED}.{name}" for name in cast("Mapping[str, object]", nested)]
    else:
        pair = list(values)
    codes = [name.rpartition(".")[2].lower() for name in pair]
    if len(pair) != 2 or not LANGUAGES.keys() >= set(codes):
        return None
    return {**form.named(given), "source": pair[0], "target": pair[1]}


SUMMARIZATION = Format(
    "summarization",
    (
        Column("document", ("document", "article", "dialogue", "text"), also="text"),
        Column("summary", ("summary", "highlights"), answer=True),
        SYSTEM,
    ),
    ("chat", "summarization"),
    _read_summarization,
)
TRANSLATION = Format(
    "translation",
    (Column("source"), Column("target", answer=True), SYSTEM),
    ("chat", "translation"),
    _read_translation,
    _fit_translation,
    usual="two columns named by their languages",
)
TEXT_GENERATION = Format(
    "text-generation",
    (Column("text"), Column("ground_truth", answer=True), SYSTEM),
    ("chat",),
    _read_text_generation,
)
