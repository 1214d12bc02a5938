"""Labelled texts: a class for a text or a pair, and entities marked by a tag for each token.

Each becomes a question and its answer. The question begins with a short instruction, which gives
way to `data.system` where the recipe has one.

A class is its text: 1 and "1" are the same class. A list holds all the classes of its text, or
none. The entities of a text are one line each,
`TYPE: the words`, in the order of the text, or `none`. Tags B-, I-, L-, E-, U- and S- are read with
their usual meaning; without such a prefix neighbours of one tag are one entity, and O or 0 is none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from tunesmith.data.conversation import Conversation, Labelled, Message, Sample
from tunesmith.data.fields import MISSING, FieldReader, from_literal
from tunesmith.data.forms.form import Column, Format, read_system

NO_ENTITY = NO_LABEL = "none"
NO_TAG = "O"
NER_INSTRUCTION = (
    "List the named entities in the text, one on a line as TYPE: words. "
    f"Answer {NO_ENTITY} if there is no entity."
)
_BEGINS = ("B", "S", "U")
_INSIDE = ("I", "E", "L")
_LAST = ("S", "U", "E", "L")


def ask(
    reader: FieldReader, instruction: str, text: str, answer: str, labelled: Labelled | None = None
) -> Conversation:
    """Return the question with its instruction, unless the recipe's system message gives it."""
    system = read_system(reader)
    if instruction and not reader.options.has_system and not system:
        text = f"{instruction}\n\n{text}"
    turns = (Message("user", text), Message("assistant", answer))
    return Conversation(messages=system + turns, labelled=labelled)


def _read_classification(reader: FieldReader) -> Sample:
    text = reader.text("sentence1", may_be_empty=False)
    is_pair = reader.has("sentence2")
    texts = (text, *([reader.text("sentence2", may_be_empty=False)] if is_pair else []))
    has_none = reader.value("label") != [] and reader.lacks_answer("label")
    labels, has_several = ((), False) if has_none else _read_labels(reader)
    if reader.options.asked:
        has_several = reader.options.several_labels
    labelled = Labelled(kind="classes", texts=texts, labels=labels)
    shown = f"Text 1: {text}\nText 2: {texts[-1]}" if is_pair else text
    what = "pair of texts" if is_pair else "text"
    how = "all labels that apply, separated by commas" if has_several else "the label only"
    answer = "" if has_none else ", ".join(labels) or NO_LABEL
    return ask(reader, f"Classify the {what}. Answer with {how}.", shown, answer, labelled)


def _read_labels(reader: FieldReader) -> tuple[tuple[str, ...], bool]:
    """Return the row's label, or its labels where it has a list of them, which may be empty."""
    name, value = reader.name("label"), reader.value("label")
    if value is MISSING:
        reader.missing("label", "a label")
        return (), False
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = from_literal(value)
    if not isinstance(value, list):
        return (_read_label(reader, name, value),), False
    items = cast("list[object]", value)
    labels = [_read_label(reader, f"{name}[{index}]", item) for index, item in enumerate(items)]
    return tuple(dict.fromkeys(labels)), True


def _read_label(reader: FieldReader, name: str, value: object) -> str:
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    if not isinstance(value, str):
        reader.wrong_type(name, value, "a text or an integer as the label")
        return ""
    return reader.check_text(name, value, may_be_empty=False)


def _read_ner(reader: FieldReader) -> Sample:
    tokens = [
        _read_token(reader, f"{reader.name('tokens')}[{index}]", token)
        for index, token in enumerate(reader.listed("tokens"))
    ]
    has_none = reader.lacks_answer("tags")
    tags = [
        _read_tag(reader, f"{reader.name('tags')}[{index}]", tag)
        for index, tag in enumerate([] if has_none else reader.listed("tags"))
    ]
    if not reader.faults and not tokens:
        name = reader.name("tokens")
        reader.fault(name, "no tokens", "at least one", reason="empty text", fix="remove the row")
    if not reader.faults and not has_none and len(tokens) != len(tags):
        reader.fault(
            reader.name("tags"), f"{len(tokens)} tokens and {len(tags)} tags",
            "a tag for each token", reason="tokens and tags differ in number",
            fix="give each token its tag, or remove the row",
        )  # fmt: skip
    if reader.faults:
        return ask(reader, "", "", "")
    named = tags or [NO_TAG] * len(tokens)
    answer = "\n".join(f"{kind}: {words}" for kind, words in find_entities(tokens, named))
    labelled = Labelled(kind="tags", texts=tuple(tokens), labels=tuple(to_iob2(tags)))
    answer = "" if has_none else answer or NO_ENTITY
    return ask(reader, NER_INSTRUCTION, " ".join(tokens), answer, labelled)


def _read_token(reader: FieldReader, field: str, token: object) -> str:
    text = reader.check_text(field, token)
    if "\n" in text:
        reader.fault(field, "a line break in a token", "one line", reason="line break in a token")
    return text


def _read_tag(reader: FieldReader, field: str, tag: object) -> str:
    if isinstance(tag, int) and not isinstance(tag, bool):
        reader.note("tags that are numbers: 0 is taken for no entity, the others for types")
        return NO_TAG if tag == 0 else str(tag)
    return reader.check_text(field, tag, may_be_empty=False)


def find_entities(tokens: Sequence[str], tags: Sequence[str]) -> list[tuple[str, str]]:
    """Return the type and the words of each entity, in the order of the text."""
    assert len(tokens) == len(tags), "a tag for each token"
    spans = entity_spans(tags)
    return [(kind, " ".join(tokens[start:end])) for kind, start, end in spans]


def entity_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the type of each entity, its first token, and the first one behind it."""
    spans: list[tuple[str, int, int]] = []
    for place, tag in enumerate(to_iob2(tags)):
        if tag.startswith("B-"):
            spans.append((tag[2:], place, place + 1))
        elif tag != NO_TAG:
            kind, start, _ = spans[-1]
            spans[-1] = (kind, start, place + 1)
    return spans


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Return the same entities with B- at the first token of each, I- at the others, and O."""
    written: list[str] = []
    open_kind = None
    for tag in tags:
        if tag == NO_TAG:
            open_kind = None
            written.append(NO_TAG)
            continue
        mark, kind = _split_tag(tag)
        goes_on = kind == open_kind and mark not in _BEGINS
        written.append(f"{'I' if goes_on else 'B'}-{kind}")
        open_kind = None if mark in _LAST else kind
    return written


def _split_tag(tag: str) -> tuple[str, str]:
    mark, dash, kind = tag.partition("-")
    is_marked = dash and kind and mark in (*_BEGINS, *_INSIDE)
    return (mark, kind) if is_marked else ("", tag)


SYSTEM = Column("system", needed=False)
CLASSIFICATION = Format(
    "classification",
    (
        Column("sentence1", ("sentence1", "text", "sentence", "premise"), also="text"),
        Column(
            "label",
            ("label", "labels", "category", "intent", "class", "sentiment", "emotion"),
            answer=True,
        ),
        Column("sentence2", ("sentence2", "hypothesis"), needed=False),
        SYSTEM,
    ),
    ("chat", "classification", "classification-head"),
    _read_classification,
    usual="text + label",
)
NER = Format(
    "ner",
    (
        Column("tokens", ("tokens", "words")),
        Column("tags", ("tags", "ner_tags"), answer=True),
        SYSTEM,
    ),
    ("chat", "ner", "ner-head", "ner-head-causal"),
    _read_ner,
)
