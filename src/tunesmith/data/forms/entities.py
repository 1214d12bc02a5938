"""Texts with their entities by place: `{"text": ..., "entities": [{"start", "end", "label"}]}`.

An entity may be a list too, `[start, end, label]`. Places are characters of the text, the end being
the first one behind the entity.

The tokens are the words of the text, at their places there: a run of letters, digits and marks, and
any other character by itself; so is one of a script that puts no spaces between words.

    In Rio, 7-8pm   ->   In  Rio  ,  7  -  8pm
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from tunesmith.data.conversation import Labelled, Sample
from tunesmith.data.fields import FieldReader
from tunesmith.data.forms.form import Column, Format
from tunesmith.data.forms.labelled import (
    NER_INSTRUCTION,
    NO_ENTITY,
    NO_TAG,
    SYSTEM,
    ask,
)

# Thai and Lao, Burmese, Khmer, kana, Han, and Korean, which joins particles to names.
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Entity:
    """An entity as the row has it; `field` is its place in the row."""

    field: str
    start: int
    end: int
    label: str

    @property
    def shown(self) -> str:
        return f"{self.label} from {self.start} to {self.end}"


def words_of(text: str) -> list[tuple[str, int]]:
    """Return the words of a text, each with its place."""
    spans: list[tuple[int, int]] = []
    before = "space"
    for place, character in enumerate(text):
        kind = _kind(character)
        if kind == "run" == before:
            spans[-1] = (spans[-1][0], place + 1)
        elif kind != "space":
            spans.append((place, place + 1))
        before = kind
    return [(text[start:end], start) for start, end in spans]


def _kind(character: str) -> Literal["space", "run", "single"]:
    if character.isspace():
        return "space"
    if unicodedata.category(character)[0] not in "LNM" and character != "_":
        return "single"
    code = ord(character)
    is_unspaced = any(first <= code <= last for first, last in _UNSPACED)
    return "single" if is_unspaced else "run"


def _read_entities(reader: FieldReader) -> Sample:
    text = reader.text("text", may_be_empty=False)
    has_none = reader.lacks_answer("entities")
    items: Sequence[object] = [] if has_none else reader.listed("entities")
    entities = [
        _read_entity(reader, f"{reader.name('entities')}[{index}]", item, text)
        for index, item in enumerate(items)
    ]
    if reader.faults:
        return ask(reader, "", "", "")
    ordered = sorted((one for one in entities if one), key=lambda one: (one.start, one.end))
    words = words_of(text)
    tags = _tags(reader, ordered, words)
    labelled = Labelled(
        kind="tags",
        texts=tuple(word for word, _ in words),
        labels=() if has_none else tuple(tags),
        starts=tuple(start for _, start in words),
        whole=text,
    )
    lines = [f"{one.label}: {' '.join(text[one.start : one.end].split())}" for one in ordered]
    answer = "" if has_none else "\n".join(lines) or NO_ENTITY
    return ask(reader, NER_INSTRUCTION, text, answer, labelled)


def _read_entity(reader: FieldReader, field: str, item: object, text: str) -> _Entity | None:
    """Return an entity whose place is in the text, or note what is wrong with it."""
    values = item
    if isinstance(item, dict):
        named = cast("dict[str, object]", item)
        values = [named.get(name) for name in ("start", "end", "label")]
    listed = cast("list[object]", values) if isinstance(values, list) else []
    if len(listed) != 3 or not all(type(place) is int for place in listed[:2]):
        reader.fault(
            field, "no start and end with a label", "{start, end, label} or [start, end, label]",
            fix="write start and end as integers, and the label as a text", reason="no entity",
        )  # fmt: skip
        return None
    start, end = cast("list[int]", listed[:2])
    label = reader.check_text(field, listed[2], may_be_empty=False)
    if 0 <= start < end <= len(text) and text[start:end].strip():
        return _Entity(field, start, end, label)
    reader.fault(
        field, f"{label} from {start} to {end} in a text of {len(text)} characters",
        "the place of at least one word of the text",
        fix="correct start and end (the first character behind it), or remove the entity",
        reason="an entity that is not in the text",
    )  # fmt: skip
    return None


def _tags(
    reader: FieldReader, entities: Sequence[_Entity], words: Sequence[tuple[str, int]]
) -> list[str]:
    """Return the tag of each word in IOB2; an entity is of whole words, and of its own ones."""
    starts = [start for _, start in words]
    ends = [start + len(word) for word, start in words]
    tags = [NO_TAG] * len(words)
    for before, one in zip([None, *entities], entities, strict=False):
        if before is not None and one.start < before.end:
            _overlaps(reader, one, before)
            continue
        first, last = bisect_right(ends, one.start), bisect_left(starts, one.end) - 1
        if starts[first] < one.start or ends[last] > one.end:
            _cuts(reader, one, starts[first], ends[last])
            continue
        tags[first : last + 1] = [f"B-{one.label}", *[f"I-{one.label}"] * (last - first)]
    return tags


def _cuts(reader: FieldReader, one: _Entity, start: int, end: int) -> None:
    whole = (min(start, one.start), max(end, one.end))
    reader.fault(
        one.field, f"{one.shown} cuts a word: the whole words are from {whole[0]} to {whole[1]}",
        "an entity of whole words",
        fix=f"write {whole[0]} and {whole[1]}, put a space between the words in the text, or "
        "remove the entity",
        reason="an entity cuts a word",
    )  # fmt: skip


def _overlaps(reader: FieldReader, one: _Entity, before: _Entity) -> None:
    reader.fault(
        one.field, f"{one.shown} overlaps {before.shown}", "entities apart from each other",
        fix="keep one of the two", reason="entities that overlap",
    )  # fmt: skip


ENTITIES = Format(
    "entities",
    (
        Column("text"),
        Column("entities", ("entities", "spans"), answer=True),
        SYSTEM,
    ),
    ("chat", "ner", "ner-head", "ner-head-causal"),
    _read_entities,
)
