"""Labelled texts: a class for a text or a pair, and entities marked by a tag for each token.

Each becomes a question and its answer. The question begins with a short instruction, which gives
way to `data.system` where the recipe has one.

A class is its text: 1 and "1" are the same class. The entities of a text are one line each,
`TYPE: the words`, in the order of the text, or `none`. Tags B-, I-, L-, E-, U- and S- are read with
their usual meaning; without such a prefix neighbours of one tag are one entity, and O or 0 is none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tunesmith.data.conversation import Conversation, Message, Sample
from tunesmith.data.fields import MISSING, FieldReader
from tunesmith.data.forms.form import Column, Format, read_system

NO_ENTITY = "none"
_BEGINS = ("B", "S", "U")
_INSIDE = ("I", "E", "L")
_LAST = ("S", "U", "E", "L")


def ask(
    reader: FieldReader, instruction: str, text: str, answer: str, label: str | None = None
) -> Conversation:
    """Return the question with its instruction, unless the recipe's system message gives it."""
    system = read_system(reader)
    if instruction and not reader.options.has_system and not system:
        text = f"{instruction}\n\n{text}"
    turns = (Message("user", text), Message("assistant", answer))
    return Conversation(messages=system + turns, label=label)


def _read_classification(reader: FieldReader) -> Sample:
    text = reader.text("sentence1", may_be_empty=False)
    label = _read_label(reader)
    if not reader.has("sentence2"):
        return ask(reader, "Classify the text. Answer with the label only.", text, label, label)
    second = reader.text("sentence2", may_be_empty=False)
    pair = f"Text 1: {text}\nText 2: {second}"
    return ask(
        reader, "Classify the pair of texts. Answer with the label only.", pair, label, label
    )


def _read_label(reader: FieldReader) -> str:
    value = reader.value("label")
    if value is MISSING:
        reader.missing("label", "a label")
        return ""
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    if not isinstance(value, str):
        reader.wrong_type(reader.name("label"), value, "a text or an integer as the label")
        return ""
    return reader.check_text(reader.name("label"), value, may_be_empty=False)


def _read_ner(reader: FieldReader) -> Sample:
    tokens = [
        _read_token(reader, f"{reader.name('tokens')}[{index}]", token)
        for index, token in enumerate(reader.listed("tokens"))
    ]
    tags = [
        _read_tag(reader, f"{reader.name('tags')}[{index}]", tag)
        for index, tag in enumerate(reader.listed("tags"))
    ]
    if not reader.faults and not tokens:
        name = reader.name("tokens")
        reader.fault(name, "no tokens", "at least one", reason="empty text", fix="remove the row")
    if not reader.faults and len(tokens) != len(tags):
        reader.fault(
            reader.name("tags"), f"{len(tokens)} tokens and {len(tags)} tags",
            "a tag for each token", reason="tokens and tags differ in number",
            fix="give each token its tag, or remove the row",
        )  # fmt: skip
    if reader.faults:
        return ask(reader, "", "", "")
    answer = "\n".join(f"{kind}: {words}" for kind, words in find_entities(tokens, tags))
    instruction = (
        "List the named entities in the text, one on a line as TYPE: words. "
        f"Answer {NO_ENTITY} if there is no entity."
    )
    return ask(reader, instruction, " ".join(tokens), answer or NO_ENTITY)


def _read_token(reader: FieldReader, field: str, token: object) -> str:
    text = reader.check_text(field, token)
    if "\n" in text:
        reader.fault(field, "a line break in a token", "one line", reason="line break in a token")
    return text


def _read_tag(reader: FieldReader, field: str, tag: object) -> str:
    if isinstance(tag, int) and not isinstance(tag, bool):
        reader.note("tags that are numbers: 0 is taken for no entity, the others for types")
        return "O" if tag == 0 else str(tag)
    return reader.check_text(field, tag, may_be_empty=False)


@dataclass
class _Entity:
    kind: str
    words: list[str] = field(default_factory=list[str])


def find_entities(tokens: list[str], tags: list[str]) -> list[tuple[str, str]]:
    """Return the type and the words of each entity, in the order of the text."""
    found: list[_Entity] = []
    is_open = False
    for token, tag in zip(tokens, tags, strict=True):
        if tag == "O":
            is_open = False
            continue
        mark, kind = _split_tag(tag)
        goes_on = is_open and mark not in _BEGINS and found[-1].kind == kind
        if not goes_on:
            found.append(_Entity(kind))
        found[-1].words.append(token)
        is_open = mark not in _LAST
    return [(entity.kind, " ".join(entity.words)) for entity in found]


def _split_tag(tag: str) -> tuple[str, str]:
    mark, dash, kind = tag.partition("-")
    is_marked = dash and kind and mark in (*_BEGINS, *_INSIDE)
    return (mark, kind) if is_marked else ("", tag)


SYSTEM = Column("system", needed=False)
CLASSIFICATION = Format(
    "classification",
    (
        Column("sentence1", ("sentence1", "text", "sentence", "premise"), also="text"),
        Column("label", ("label", "category", "intent", "class", "sentiment", "emotion")),
        Column("sentence2", ("sentence2", "hypothesis"), needed=False),
        SYSTEM,
    ),
    ("chat",),
    _read_classification,
    usual="text + label",
)
NER = Format(
    "ner",
    (Column("tokens", ("tokens", "words")), Column("tags", ("tags", "ner_tags")), SYSTEM),
    ("chat",),
    _read_ner,
)
