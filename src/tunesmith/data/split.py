"""Which rows are trained and which are held out, decided by what a row says, not by its place.

A row's side follows from a hash of its own content: a shuffled file splits the same way, and a row
that is added later moves no other row to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from tunesmith.data.conversation import (
    Conversation,
    Preference,
    PromptCompletion,
    Sample,
    texts_of,
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
        first.setdefault(_hash(sample, with_weights=True), sample)
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


def _hash(sample: Sample, *, with_weights: bool) -> bytes:
    if isinstance(sample, Conversation):
        fields = [
            text
            for message in sample.messages
            for text in (message.role, message.content, str(message.weight) * with_weights)
        ]
    elif isinstance(sample, PromptCompletion):
        fields = [sample.prompt, sample.completion]
    elif isinstance(sample, Preference):
        fields = texts_of(sample)
    else:
        fields = [sample.text]
    digest = blake2b(digest_size=_HASH_BYTES)
    for field in fields:
        encoded = field.encode("utf-8")
        digest.update(len(encoded).to_bytes(8))  # so that ("ab", "c") and ("a", "bc") differ
        digest.update(encoded)
    return digest.digest()
