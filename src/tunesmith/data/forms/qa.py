"""Questions about a text, with the answer in the text's own words.

The answers are an object of two lists (`text`, `answer_start`), a list of such pairs, a list of
texts, or one text. The first one is learned.
"""

from __future__ import annotations

from typing import Any, cast

from tunesmith.data.conversation import Sample
from tunesmith.data.fields import MISSING, FieldReader, from_literal, lookup
from tunesmith.data.forms.form import Column, Format
from tunesmith.data.forms.labelled import SYSTEM, ask

_INSTRUCTION = "Answer the question with words from the text."


def _read_qa(reader: FieldReader) -> Sample:
    context = reader.text("context", may_be_empty=False)
    question = reader.text("question", may_be_empty=False)
    answer, start = _read_answer(reader)
    if isinstance(start, int) and answer and not context.startswith(answer, start):
        reader.note("an answer that is not in the text at its answer_start")
    return ask(reader, _INSTRUCTION, f"Text: {context}\nQuestion: {question}", answer)


def _read_answer(reader: FieldReader) -> tuple[str, object]:
    """Return the first answer and where in the text it says to be."""
    name = reader.name("answers")
    value = reader.value("answers")
    if value is MISSING:
        reader.missing("answers", "the answers")
        return "", None
    if isinstance(value, str):
        value = from_literal(value)
    start: object = lookup(reader.values, reader.name("answer_start"))
    if isinstance(value, list):
        items = cast("list[Any]", value)
        name, value = f"{name}[0]", items[0] if items else None
    if isinstance(value, dict):
        pair = cast("dict[str, Any]", value)
        inner = reader.name("answer_text")
        name, value = f"{name}.{inner}", pair.get(inner)
        start = pair.get(reader.name("answer_start"))
    if isinstance(value, list):
        texts = cast("list[Any]", value)
        name, value = f"{name}[0]", texts[0] if texts else None
    if isinstance(start, list):
        start = next(iter(cast("list[Any]", start)), None)
    if value is None:
        reader.fault(
            name, "no answer", "at least one answer",
            fix="remove the row, or write the answer that is to be learned", reason="no answer",
        )  # fmt: skip
        return "", None
    return reader.check_text(name, value, may_be_empty=False), start


QA = Format(
    "qa",
    (
        Column("question"),
        Column("context"),
        Column("answers", ("answers", "answer", "answer_text", "answers_text"), also="answer_text"),
        Column("answer_text", ("text",), needed=False, within="answers"),
        Column("answer_start", needed=False, within="answers"),
        SYSTEM,
    ),
    ("chat",),
    _read_qa,
)
