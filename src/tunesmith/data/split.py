"""Which rows are trained and which are held out, decided by what a row says, not by its place.

A row's side follows from a hash of its own content: a shuffled file splits the same way, and a row
that is added later moves no other row to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import assert_never

from tunesmith.data.conversation import (
    Conversation,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
)

_HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Distinct:
    """Samples of which no two are equal, and how many repeats were taken out."""

    samples: tuple[Sample, ...]
    duplicates: int


@dataclass(frozen=True, slots=True)
class Split:
    """The two sides; together they are the samples that went in, in the same order."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]


def remove_duplicates(samples: Sequence[Sample]) -> Distinct:
    """Keep the first of equal samples: same turns, same texts, same weights."""
    first: dict[bytes, Sample] = {}
    for sample in samples:
        first.setdefault(whole_hash(sample), sample)
    return Distinct(samples=tuple(first.values()), duplicates=len(samples) - len(first))


def split_by_hash(samples: Sequence[Sample], share: float) -> Split:
    """Hold out about a share of the samples; from two samples on, neither side stays empty."""
    hashes = [content_hash(sample) for sample in samples]
    limit = int(share * 2 ** (8 * _HASH_BYTES))
    is_held_out = [int.from_bytes(one) < limit for one in hashes]
    if len(set(hashes)) >= 2 and len(set(is_held_out)) == 1:
        # All fell on one side: the sample whose hash is next to the limit crosses over.
        crossing = max(hashes) if is_held_out[0] else min(hashes)
        is_held_out = [
            side != (one == crossing) for side, one in zip(is_held_out, hashes, strict=True)
        ]
    sides = list(zip(samples, is_held_out, strict=True))
    return Split(
        train=tuple(sample for sample, held_out in sides if not held_out),
        validation=tuple(sample for sample, held_out in sides if held_out),
    )


def count_overlap(train: Sequence[Sample], validation: Sequence[Sample]) -> int:
    """Return how many held-out samples are also trained."""
    trained = {content_hash(sample) for sample in train}
    return sum(content_hash(sample) in trained for sample in validation)


def content_hash(sample: Sample) -> bytes:
    """Return a hash of the texts alone: rows that differ only in weights stay on one side."""
    return _hash(sample, with_weights=False)


def whole_hash(sample: Sample) -> bytes:
    """Return a hash of all that a sample says, its weights too: only equal rows share it."""
    return _hash(sample, with_weights=True)


def _hash(sample: Sample, *, with_weights: bool) -> bytes:
    fields = _fields(sample, with_weights=with_weights)
    digest = blake2b(digest_size=_HASH_BYTES)
    for field in fields:
        encoded = field.encode("utf-8")
        digest.update(len(encoded).to_bytes(8))  # so that ("ab", "c") and ("a", "bc") differ
        digest.update(encoded)
    return digest.digest()


def _fields(sample: Sample, *, with_weights: bool) -> list[str]:
    """Return what a sample says as a list of texts that no other sample has."""
    match sample:
        case Conversation():
            fields = _turn_fields(sample.messages, with_weights=with_weights)
            label = [] if sample.label is None else ["label", sample.label]
            return fields + _tagged("offered", sample.tools) + label
        case Preference():
            fields = _turn_fields(sample.prompt, with_weights=with_weights)
            for side, turns in (("chosen", sample.chosen), ("rejected", sample.rejected)):
                if turns is not None:
                    fields += [side, *_turn_fields(turns, with_weights=with_weights)]
            return fields + _tagged("offered", sample.tools)
        case PromptCompletion():
            return [sample.prompt, sample.completion]
        case PlainText():
            return [sample.text]
        case _:
            assert_never(sample)


def _turn_fields(turns: Sequence[Message], *, with_weights: bool) -> list[str]:
    fields: list[str] = []
    for turn in turns:
        fields += [turn.role, turn.content, str(turn.weight) * with_weights]
        # What few turns have stands behind its own word, so that it is mistaken for nothing else.
        if turn.thinking:
            fields += ["thinking", turn.thinking]
        if turn.name:
            fields += ["name", turn.name]
        if turn.tool_call_id:
            fields += ["answers", turn.tool_call_id]
        for call in turn.tool_calls:
            fields += ["call", call.name, call.arguments, call.id]
    return fields


def _tagged(word: str, texts: Sequence[str]) -> list[str]:
    return [part for text in texts for part in (word, text)]
