"""Questions with candidates for the answer, each right or wrong: multiple choice.

The candidates are a list of texts, beside which an answer says which is right: its text, its place
from 0, or its letter. Or an object says of each candidate whether it is right, 1 or 0; so are
TruthfulQA's `mc2_targets`, whose one best answer is that of `mc1_targets`. Or an object holds two
lists, `text` and `label`, and the answer is one of the labels.

The best of the right answers is learned. The model is not shown the candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tunesmith.data.conversation import Labelled, Sample
from tunesmith.data.fields import MISSING, FieldReader
from tunesmith.data.forms.form import Column, Format
from tunesmith.data.forms.labelled import SYSTEM, ask
from tunesmith.data.json_text import type_name

BEST, RIGHT, WRONG = "best", "right", "wrong"
_SHOWN = "{candidate: 1 or 0}, or a list of texts with the answer beside it"


def _read_choices(reader: FieldReader) -> Sample:
    question = reader.text("question", may_be_empty=False)
    marks = _read_marks(reader)
    if not reader.faults and marks:
        _check_marks(reader, marks)
    if reader.faults:
        return ask(reader, "", "", "")
    best = [text for text, mark in marks.items() if mark == BEST]
    labelled = Labelled(kind="choices", texts=tuple(marks), labels=tuple(marks.values()))
    return ask(reader, "", question, best[0] if best else "", labelled)


def _read_marks(reader: FieldReader) -> dict[str, str]:
    """Return each candidate with what it is: best, right or wrong."""
    name, value = reader.name("choices"), reader.structured("choices")
    if value is MISSING:
        reader.missing("choices", _SHOWN)
    elif isinstance(value, list):
        return _of_list(reader, name, cast("list[object]", value), None)
    elif not isinstance(value, Mapping):
        reader.wrong_type(name, value, _SHOWN)
    else:
        given = cast("Mapping[str, Any]", value)
        texts, labels = given.get("text"), given.get("label")
        if isinstance(texts, list) and isinstance(labels, list):
            return _of_list(reader, name, cast("list[object]", texts), cast("list[object]", labels))
        return _of_object(reader, name, given)
    return {}


def _of_object(reader: FieldReader, name: str, given: Mapping[str, Any]) -> dict[str, str]:
    targets = reader.structured("best")
    single = cast("Mapping[str, Any]", targets) if isinstance(targets, Mapping) else {}
    right = {text: _truth(reader, f"{name}.{text}", value) for text, value in given.items()}
    best = next((text for text, value in single.items() if _is_one(value)), None)
    if best is not None and not right.get(best):
        reader.fault(
            reader.name("best"), "a best answer that is not among the right ones",
            f"one of those in {name} with 1", reason="the best answer is not right",
            fix=f"add it to {name} with 1",
        )  # fmt: skip
    if best is None:
        best = next((text for text, is_right in right.items() if is_right), None)
    return {
        text: BEST if text == best else RIGHT if is_right else WRONG
        for text, is_right in right.items()
    }


def _of_list(
    reader: FieldReader, name: str, values: list[object], labels: list[object] | None
) -> dict[str, str]:
    texts = [
        reader.check_text(f"{name}[{index}]", value, may_be_empty=False)
        for index, value in enumerate(values)
    ]
    if len(set(texts)) < len(texts):
        reader.fault(
            name, "a candidate that is there twice", "candidates that differ",
            reason="a candidate twice", fix="remove one of them",
        )  # fmt: skip
    if reader.lacks_answer("answers"):
        return dict.fromkeys(texts, WRONG)
    place = _place_of_answer(reader, texts, labels)
    return {text: BEST if index == place else WRONG for index, text in enumerate(texts)}


def _place_of_answer(reader: FieldReader, texts: list[str], labels: list[object] | None) -> int:
    """Return which candidate is right, by its label, its text, its place from 0, or its letter."""
    value = reader.value("answers")
    if value is MISSING:
        reader.missing("answers", "which candidate is right: its text, its place from 0, a letter")
        return 0
    if labels is not None and value in labels:
        return labels.index(value)
    if isinstance(value, str) and value in texts:
        return texts.index(value)
    if isinstance(value, str) and labels is None and len(value) == 1 and value.isalpha():
        value = ord(value.upper()) - ord("A")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(texts):
        return value
    reader.fault(
        reader.name("answers"), f"{value!r}, which is none of the {len(texts)} candidates",
        "its text, its place from 0, or its letter", reason="the answer is no candidate",
        fix="write the right candidate's text",
    )  # fmt: skip
    return 0


def _truth(reader: FieldReader, name: str, value: object) -> bool:
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        shown = repr(value) if isinstance(value, int) else type_name(value)
        reader.fault(
            name, f"got {shown}", "1 where it is right, else 0", reason="no mark of a candidate"
        )
    return _is_one(value)


def _is_one(value: object) -> bool:
    return value in (1, True)


def _check_marks(reader: FieldReader, marks: Mapping[str, str]) -> None:
    name, kinds = reader.name("choices"), set(marks.values())
    if len(marks) < 2 or (WRONG not in kinds and not reader.options.asked):
        reader.fault(
            name, f"{len(marks)} candidates, none of them wrong", "at least one that is wrong",
            reason="no wrong candidate", fix="add a wrong candidate, or remove the row",
        )  # fmt: skip
    elif BEST not in kinds and not reader.options.asked:
        reader.fault(
            name, "no right candidate", "at least one with 1", reason="no right candidate",
            fix="mark one with 1, or remove the row",
        )  # fmt: skip


MULTIPLE_CHOICE = Format(
    "multiple-choice",
    (
        Column("question", ("question", "prompt", "query")),
        Column("choices", ("choices", "options", "mc2_targets")),
        Column("answers", ("answer", "answerKey", "label"), needed=False, answer=True),
        Column("best", ("mc1_targets",), needed=False, answer=True),
        SYSTEM,
    ),
    ("chat",),
    _read_choices,
    usual="question + choices + answer",
)
