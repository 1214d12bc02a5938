"""What was answered to a row beside what is right, in the form in which both are scored.

classification   said: the label, or all of several; none where the text is no label
ner              said and right: a tag for each token, in IOB2
qa               said: one text, empty for no answer; right: each text that is a right answer
choices          said: the likeliest candidate; right: the true ones; values: mc1, mc2
others           said and right: one text
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.data.conversation import Labelled
from tunesmith.data.forms.choices import BEST, RIGHT
from tunesmith.data.forms.entities import words_of
from tunesmith.data.forms.labelled import NO_ENTITY, NO_LABEL, NO_TAG, entity_spans
from tunesmith.data.forms.qa import NO_ANSWER
from tunesmith.tasks.question import Question


@dataclass(frozen=True)
class Said:
    """`lost` counts what an answer names and the text does not hold.

    `values` are scores that this row has by itself, by their names.
    """

    row_id: str
    said: tuple[str, ...]
    right: tuple[str, ...]
    lost: int = 0
    values: Mapping[str, float] = field(default_factory=dict[str, float])


def understand(question: Question, text: str, labels: Collection[str]) -> Said:
    """Read a written answer; `labels` are the classes that there are."""
    labelled, text = question.labelled, text.strip()
    if labelled is None:
        if not labels:
            return Said(question.row_id, (text,), (question.reference,))
        return Said(question.row_id, _one_label(text, labels), (question.reference,))
    match labelled.kind:
        case "classes" if len(labelled.labels) == 1:
            return Said(question.row_id, _one_label(text, labels), labelled.labels)
        case "classes":
            said = tuple(sorted(_several_labels(text, labels)))
            return Said(question.row_id, said, tuple(sorted(labelled.labels)))
        case "tags":
            tags, lost = tags_of(text, labelled)
            return Said(question.row_id, tuple(tags), labelled.labels, lost)
        case "answers":
            is_none = text not in labelled.labels and _is_no_answer(text)
            return Said(question.row_id, ("" if is_none else text,), labelled.labels)
        case "choices":
            return Said(question.row_id, (text,), right_candidates(labelled))


def right_candidates(labelled: Labelled) -> tuple[str, ...]:
    """Return the candidates that are right, the best first."""
    pairs = list(zip(labelled.texts, labelled.labels, strict=True))
    return tuple(text for mark in (BEST, RIGHT) for text, own in pairs if own == mark)


def _one_label(text: str, labels: Collection[str]) -> tuple[str, ...]:
    """Return the label that a text is, apart from case and a full stop, or nothing."""
    if not labels or text in labels:
        return (text,)
    bare = text.rstrip(".").casefold()
    return next(((label,) for label in labels if label.casefold() == bare), ())


def _is_no_answer(text: str) -> bool:
    return text.rstrip(".").casefold() == NO_ANSWER


def _several_labels(text: str, labels: Collection[str]) -> set[str]:
    parts = [part.strip() for part in text.split(",")]
    return {label for part in parts if part != NO_LABEL for label in _one_label(part, labels)}


def tags_of(text: str, labelled: Labelled) -> tuple[list[str], int]:
    """Read entities written one on a line as `TYPE: words`, and find each in the text.

    An entity is the first run of these tokens that is not taken yet, behind the one before where
    there is such a one. Returns the tags and how many entities the text does not hold.
    """
    tokens = labelled.texts
    tags = [NO_TAG] * len(tokens)
    lost = behind = 0
    for line in text.splitlines():
        kind, colon, words = (part.strip() for part in line.partition(":"))
        if not line.strip() or line.strip() == NO_ENTITY:
            continue
        wanted = [word for word, _ in words_of(words)] if labelled.whole else words.split()
        place = _find(wanted, tokens, tags, behind) if colon and kind and wanted else None
        if place is None:
            lost += 1
            continue
        behind = place + len(wanted)
        tags[place:behind] = [f"B-{kind}", *[f"I-{kind}"] * (len(wanted) - 1)]
    return tags, lost


def entities_of(labelled: Labelled, tags: Sequence[str]) -> list[dict[str, Any]]:
    """Return the entities of tags, each with its type, its words and where they are.

    That is in the tokens, or of a row that has its text, in the characters of the text. An I- that
    follows nothing of its type begins one, too.
    """
    found: list[dict[str, Any]] = []
    for kind, start, end in entity_spans(tags):
        words = " ".join(labelled.texts[start:end])
        if labelled.whole:
            start, end = (
                labelled.starts[start],
                labelled.starts[end - 1] + len(labelled.texts[end - 1]),
            )
            words = labelled.whole[start:end]
        found.append({"type": kind, "words": words, "start": start, "end": end})
    return found


def _find(
    wanted: Sequence[str], tokens: Sequence[str], tags: Sequence[str], behind: int
) -> int | None:
    last = len(tokens) - len(wanted) + 1
    free = (
        place
        for place in [*range(behind, last), *range(min(behind, last))]
        if list(tokens[place : place + len(wanted)]) == list(wanted)
        and all(tag == NO_TAG for tag in tags[place : place + len(wanted)])
    )
    return next(free, None)
