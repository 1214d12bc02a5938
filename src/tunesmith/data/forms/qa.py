"""Questions about a text, with the answer in the text's own words.

The answers are an object of two lists (`text`, `answer_start`), a list of such pairs, a list of
texts, or one text. The first one is learned; any of them is a right answer.

A question that the text does not answer has an empty list, as in SQuAD 2.0 (Rajpurkar et al.,
2018). What is written for it is NO_ANSWER.
"""

from __future__ import annotations

from typing import Any, cast

from tunesmith.data.conversation import Labelled, Sample
from tunesmith.data.fields import MISSING, FieldReader, from_literal, lookup
from tunesmith.data.forms.form import Column, Format
from tunesmith.data.forms.labelled import SYSTEM, ask

NO_ANSWER = "unanswerable"
_INSTRUCTION = "Answer the question with words from the text."


def _read_qa(reader: FieldReader) -> Sample:
    context = reader.text("context", may_be_empty=False)
    question = reader.text("question", may_be_empty=False)
    is_learned = not reader.options.asked
    has_any = _has_answer(reader)
    has_none = not has_any and (not is_learned or _says_none(reader))
    if has_any and _is_impossible(reader):
        _contradicts(reader)
    answers = [] if has_none else _read_answers(reader)
    texts = tuple(text for text, _ in answers)
    if not answers and not has_none:
        return ask(reader, "", "", "")
    starts = tuple(_start_in(context, text, start) for text, start in answers)
    text, given = answers[0] if answers else (NO_ANSWER if is_learned else "", None)
    if has_none and is_learned:
        reader.note("a question without an answer: to say so is learned")
    if isinstance(given, int) and text and starts[0] != given:
        reader.note("an answer that is not in the text at its answer_start")
    if is_learned and reader.options.task == "qa-head" and answers and text and starts[0] < 0:
        reader.fault(
            reader.name("answers"), "an answer that the text does not hold", "words of the text",
            fix="write the answer as it is in the text, or set task.head: false",
            reason="answer not in the text",
        )  # fmt: skip
    labelled = Labelled(kind="answers", texts=(context, question), labels=texts, starts=starts)
    asked = f"Text: {context}\nQuestion: {question}"
    return ask(reader, _INSTRUCTION, asked, text, labelled)


def _has_answer(reader: FieldReader) -> bool:
    """Say whether there is any text among the answers; SQuAD has none as an object of no texts."""
    value = _given(reader)
    if value is MISSING or (isinstance(value, str) and not value.strip()):
        return False
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    found = [text for item in items for _, text, _ in _answers_of(reader, "", item, None)]
    return any(text is not None for text in found)


def _given(reader: FieldReader) -> object:
    """Return the answers as they are, or what their text stands for."""
    value = reader.value("answers")
    return from_literal(value) if isinstance(value, str) else value


def _says_none(reader: FieldReader) -> bool:
    """Say whether a row without an answer means that there is none: by a mark or an empty list."""
    mark = reader.value("is_impossible")
    if mark not in (MISSING, None):
        return _is_impossible(reader)
    value = _given(reader)
    if isinstance(value, dict):
        value = cast("dict[str, object]", value).get(reader.name("answer_text"))
    return value == []


def _contradicts(reader: FieldReader) -> None:
    reader.fault(
        reader.name("is_impossible"), "true beside an answer", "one of them",
        fix="take the answers out, or write false", reason="an answer where there is none",
    )  # fmt: skip


def _is_impossible(reader: FieldReader) -> bool:
    mark = reader.value("is_impossible")
    return mark is True or (isinstance(mark, str) and mark.strip().lower() == "true")


def _start_in(context: str, answer: str, start: object) -> int:
    """Return where the answer is: at its start where that is given and right, or its first place.

    -1 where the text does not hold it.
    """
    if isinstance(start, int) and start >= 0 and context.startswith(answer, start):
        return start
    return context.find(answer)


def _read_answers(reader: FieldReader) -> list[tuple[str, object]]:
    """Return the answers, each with the place in the text that the row gives for it."""
    name = reader.name("answers")
    value = _given(reader)
    if value is MISSING:
        reader.missing("answers", "the answers")
        return []
    starts: object = lookup(reader.values, reader.name("answer_start"))
    found: list[tuple[str, object, object]] = []
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    is_list = isinstance(value, list)
    for index, item in enumerate(items):
        place = f"{name}[{index}]" if is_list else name
        found += _answers_of(reader, place, item, _item(starts, index))
    if not found:
        found = [(f"{name}[0]", None, None)]
    checked = [(_check(reader, place, text), start) for place, text, start in found]
    distinct: dict[str, object] = {}
    for answer, start in checked:
        distinct.setdefault(answer, start)
    return list(distinct.items())


def _answers_of(
    reader: FieldReader, place: str, item: object, start: object
) -> list[tuple[str, object, object]]:
    """Return place, text and start of what an item holds: a text, or an object of text and start.

    The object may hold two lists, too.
    """
    if not isinstance(item, dict):
        return [(place, item, start)]
    pair = cast("dict[str, Any]", item)
    inner = reader.name("answer_text")
    place, text = f"{place}.{inner}", pair.get(inner)
    start = pair.get(reader.name("answer_start"))
    if not isinstance(text, list):
        return [(place, text, start)]
    texts = cast("list[Any]", text)
    return [(f"{place}[{i}]", one, _item(start, i)) for i, one in enumerate(texts)] or [
        (f"{place}[0]", None, None)
    ]


def _item(values: object, index: int) -> object:
    """Return an item of a list that may be shorter, or the value itself where it is no list."""
    if not isinstance(values, list):
        return values
    items = cast("list[object]", values)
    return items[index] if index < len(items) else None


def _check(reader: FieldReader, place: str, text: object) -> str:
    if text is None:
        reader.fault(
            place, "no answer", "at least one answer",
            fix="write the answer that is to be learned, or an empty list and no is_impossible: "
            "false if there is none", reason="no answer",
        )  # fmt: skip
        return ""
    return reader.check_text(place, text, may_be_empty=False)


QA = Format(
    "qa",
    (
        Column("question"),
        Column("context"),
        Column(
            "answers",
            ("answers", "answer", "answer_text", "answers_text"),
            also="answer_text",
            answer=True,
        ),
        Column("answer_text", ("text",), needed=False, within="answers", answer=True),
        Column("answer_start", needed=False, within="answers", answer=True),
        Column("is_impossible", needed=False, answer=True),
        SYSTEM,
    ),
    ("chat", "qa", "qa-head"),
    _read_qa,
)
