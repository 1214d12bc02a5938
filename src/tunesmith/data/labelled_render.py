r"""From a labelled row to tokens, and the places at which a head reads.

    task                   text of a decoder        of an encoder                places
    classification-head    text \n text             [CLS] text [SEP] text [SEP]  the last token
    ner-head               the text, or the tokens  the same, [CLS] and [SEP]    one for each token
                           with a space between two
    qa-head                question \n context      [CLS] question [SEP] ...     the first token,
                                                                                 and all the context

The tokens are those that the tokenizer itself gives for the text or the pair, so the libraries that
serve such a model see the same. An encoder's classes are read from the whole text, whatever place
stands for it. The first token of a question with its context stands for no answer.

Of a token that is cut into several pieces one piece counts: the first, or for a model that reads
from left to right the last, which has seen the whole token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, assert_never

import numpy as np

from tunesmith.data.conversation import Labelled, Sample, labelled_of
from tunesmith.data.example import END, NONE, START, Example
from tunesmith.data.fields import TaskName
from tunesmith.data.forms.labelled import NO_TAG
from tunesmith.data.render_fault import place_of
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import TextEncoder

UNLABELLED = ""  # a place that is read, and has no label
NO_HEAD = "candidates are not read by a head"


class Text(NamedTuple):
    """A text, or a pair, as the tokenizer gets it; `begins` is where the last part begins."""

    parts: tuple[str, ...]
    begins: int


@dataclass(frozen=True, eq=False)
class ReadText:
    """The tokens of a labelled row, and the characters of the last text that each stands for."""

    tokens: list[int]
    offsets: list[tuple[int, int] | None]
    """None for a token that is of no text, or of another one."""
    kept_end: int
    """How many tokens at the end are the tokenizer's own, such as [SEP]."""


def render_labelled(
    samples: Sequence[Sample], encoder: TextEncoder, task: TaskName
) -> Iterator[tuple[Example, ...] | RowFault]:
    """Render rows for a head; each becomes one example or the fault that prevents it."""
    labelled = [labelled_of(sample) for sample in samples]
    read = read_texts(labelled, encoder)
    for sample, row, text in zip(samples, labelled, read, strict=True):
        marks = _marks(sample, row, text, task)
        yield marks if isinstance(marks, RowFault) else (to_example(sample, text, marks, encoder),)


def read_texts(rows: Sequence[Labelled], encoder: TextEncoder) -> list[ReadText]:
    """Encode the texts of labelled rows."""
    separates = encoder.separates_pairs
    texts = [_text_of(row, separates=separates) for row in rows]
    pairs: list[Any] = [text.parts if len(text.parts) == 2 else text.parts[0] for text in texts]
    return [
        _read_text(text, encoding)
        for text, encoding in zip(texts, encoder.encode_whole(pairs), strict=True)
    ]


def _borders(row: Labelled) -> list[tuple[int, int]]:
    """Return where each token of a row begins and ends in its text."""
    starts = row.starts or accumulate((len(word) + 1 for word in row.texts[:-1]), initial=0)
    return [(start, start + len(word)) for word, start in zip(row.texts, starts, strict=True)]


def _places_of_tokens(
    borders: Sequence[tuple[int, int]], text: ReadText, *, last: bool
) -> list[int | None]:
    """Return the piece that counts of each token; None for one that shows nothing."""
    places: list[int | None] = [None] * len(borders)
    word = 0
    for place, offset in enumerate(text.offsets):
        if offset is None or offset[0] == offset[1]:
            continue
        while word < len(borders) and borders[word][1] <= offset[0]:
            word += 1
        # a piece that begins with the space before a token is of that token
        own = word
        while own < len(borders) and borders[own][0] < offset[1]:
            is_inside = min(borders[own][1], offset[1]) > max(borders[own][0], offset[0])
            if is_inside and (last or places[own] is None):
                places[own] = place
            own += 1
    return places


def _text_of(row: Labelled, *, separates: bool) -> Text:
    match row.kind:
        case "tags":
            return Text((row.whole or " ".join(row.texts),), 0)
        case "classes":
            parts = row.texts
        case "answers":
            context, question = row.texts
            parts = (question, context)
        case "choices":
            raise AssertionError(NO_HEAD)
    if len(parts) == 1 or separates:
        return Text(parts, 0)
    return Text(("\n".join(parts),), len(parts[0]) + 1)


def _read_text(text: Text, encoding: Any) -> ReadText:
    last = len(text.parts) - 1
    offsets = [
        (max(start - text.begins, 0), end - text.begins)
        if sequence == last and end > text.begins
        else None
        for sequence, (start, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    ]
    own = list(encoding.special_tokens_mask)
    kept_end = next((count for count, one in enumerate(reversed(own)) if not one), len(own))
    return ReadText(list(encoding.ids), offsets, kept_end)


Marks = list[tuple[int, str]]


def read_places(row: Labelled, text: ReadText, *, last: bool) -> list[int | None]:
    """Return where a head reads: once, or for each token, or first and all over the context.

    None for a token that shows nothing. Of a token in several pieces `last` takes the last one.
    """
    match row.kind:
        case "classes":
            return [len(text.tokens) - 1] if text.tokens else []
        case "tags":
            return _places_of_tokens(_borders(row), text, last=last)
        case "answers":
            context = [place for place, offset in enumerate(text.offsets) if offset is not None]
            return [0, *context] if context else []
        case "choices":
            raise AssertionError(NO_HEAD)
        case _:
            assert_never(row.kind)


def _marks(sample: Sample, row: Labelled, text: ReadText, task: TaskName) -> Marks | RowFault:
    """Return the places that are read, each with its label, in the order of the tokens."""
    read = read_places(row, text, last=task == "ner-head-causal")
    places = [place for place in read if place is not None]
    if not places:
        return _shows_nothing(sample, "the text")
    match row.kind:
        case "classes":
            return [(places[0], label) for label in row.labels or (UNLABELLED,)]
        case "tags":
            return _tag_marks(sample, row, read)
        case "answers":
            said = _answer_marks(row, text)
            if not said:
                return _shows_nothing(sample, f"the answer {row.labels[0]!r}")
            return sorted([*((place, UNLABELLED) for place in places), *said])
        case "choices":
            raise AssertionError(NO_HEAD)
        case _:
            assert_never(row.kind)


def _tag_marks(sample: Sample, row: Labelled, places: Sequence[int | None]) -> Marks | RowFault:
    """Give each piece the tag of its token; two tokens of one piece can only have the same."""
    tag_at: dict[int, str] = {}
    for word, tag, place in zip(row.texts, row.labels, places, strict=True):
        if place is None:
            if tag != NO_TAG:
                return _shows_nothing(sample, f"the token {word!r} of {tag}")
        elif tag_at.setdefault(place, tag) != tag:
            return _shared_piece(sample, word, tag)
    return list(tag_at.items())


def words_at(row: Labelled, text: ReadText, span: tuple[int, int] | None) -> tuple[str, int | None]:
    """Return the words of the context from one token to another, and where they begin in it.

    No span has no words.
    """
    if span is None:
        return "", None
    first, last = (text.offsets[place] for place in span)
    assert first is not None, "only tokens of the context are read"
    assert last is not None, "only tokens of the context are read"
    words = row.texts[0][first[0] : last[1]]
    return words.strip(), first[0] + len(words) - len(words.lstrip())


def _answer_marks(row: Labelled, text: ReadText) -> Marks:
    """Mark the first and the last token of the answer that is learned; empty where it has none."""
    if not row.labels:
        return [(0, NONE)]
    start = row.starts[0]
    end = start + len(row.labels[0])
    inside = [
        place
        for place, offset in enumerate(text.offsets)
        if offset is not None and offset[0] < end and offset[1] > start
    ]
    return [(inside[0], START), (inside[-1], END)] if start >= 0 and inside else []


def _shows_nothing(sample: Sample, what: str) -> RowFault:
    return place_of(sample).saying(
        found=f"{what} becomes no token of the model",
        expected="a text that the model's tokenizer can write",
        fix="remove the row, or write the text in other characters",
        reason="a text without tokens",
    )


def _shared_piece(sample: Sample, word: str, tag: str) -> RowFault:
    return place_of(sample).saying(
        found=f"the token {word!r} of {tag} is one piece of the model's with another token",
        expected="tokens that the model's tokenizer keeps apart, or that have the same tag",
        fix="remove the row, or join the two tokens",
        reason="two tokens in one piece",
    )


def to_example(
    sample: Sample, text: ReadText, marks: Sequence[tuple[int, str]], encoder: TextEncoder
) -> Example:
    """Return a row as the head reads it: at these places, each with its label."""
    weights = np.zeros(len(text.tokens), dtype=np.float32)
    places = np.array([place for place, _ in marks], dtype=np.int32)
    weights[places] = 1.0
    return Example(
        row_id=sample.row_id,
        file=sample.file,
        line=sample.line,
        tokens=np.array(text.tokens, dtype=np.int32),
        weights=weights,
        num_bos=int(encoder.automatic_bos is not None),
        closes=text.kept_end > 0,
        places=places,
        labels=tuple(label for _, label in marks),
    )
