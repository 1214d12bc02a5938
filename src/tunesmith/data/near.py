"""Rows that say nearly the same, found by their MinHash signatures.

Two rows are near where at least 0.8 of their signatures is equal; the standard error of that share
is 0.07. Signatures are cut into 8 bands of 4 values, and rows that agree in a band are candidates
(Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.minhash import NO_TEXT, NUM_HASHES, Signatures, mix

NUM_BANDS = 8
BAND_HASHES = NUM_HASHES // NUM_BANDS
THRESHOLD = 0.8
MAX_PAIRS = 10

Indices = npt.NDArray[np.int64]

_PAIRS_AT_ONCE = 65_536
_BUCKET_BITS = np.uint64(24)


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two rows and the estimated share of windows that they have in common."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True)
class NearRows:
    """How many rows have a near-duplicate, in how many clusters, and one pair of each of the first.

    A cluster holds every row that is near to another row of it. Of pairs just at the threshold
    about 1 in 60 is missed, so the counts are rather too low than too high.
    """

    rows: int
    clusters: int
    largest: int
    pairs: tuple[NearPair, ...]


def near_pairs(
    signatures: Signatures, *, threshold: float = THRESHOLD, max_pairs: int = MAX_PAIRS
) -> NearRows:
    """Find the rows of which another row says nearly the same.

    Rows that agree in one of 8 bands of 4 values are candidates. Of those that share a band, each
    is held against its neighbour and the first only, so that a million equal rows cost a million
    comparisons; who belongs together follows from the links.
    """
    links = _Links(len(signatures))
    with_text = _rows_with_text(signatures)
    for band in range(NUM_BANDS):
        keys = _band_keys(signatures, band)[with_text]
        order = np.argsort(keys, kind="stable")
        rows, buckets = with_text[order], keys[order] >> _BUCKET_BITS
        for first, second in _candidates(rows, buckets):
            links.join(
                *_near_enough(signatures, signatures, *links.apart(first, second), threshold)
            )
    return _describe(signatures, links, max_pairs)


def near_pairs_between(
    signatures: Signatures,
    others: Signatures,
    *,
    threshold: float = THRESHOLD,
    max_pairs: int = MAX_PAIRS,
) -> NearRows:
    """Find the rows that say nearly the same as one of `others`; `second` of a pair is that one.

    `clusters` counts the rows of `others` that were met; `largest` is of no use here, and 0.
    """
    partner = near_partners(signatures, others, threshold=threshold)
    found = np.flatnonzero(partner >= 0)
    chosen = found[:max_pairs]
    pairs = _pairs(signatures, others, chosen, partner[chosen])
    return NearRows(
        rows=len(found), clusters=len(np.unique(partner[found])), largest=0, pairs=pairs
    )


def near_partners(
    signatures: Signatures, others: Signatures, *, threshold: float = THRESHOLD
) -> Indices:
    """Return for each row one of `others` that says nearly the same, or -1."""
    partner = np.full(len(signatures), -1, dtype=np.int64)
    with_text, others_with_text = _rows_with_text(signatures), _rows_with_text(others)
    for band in range(NUM_BANDS if len(others_with_text) else 0):
        other_keys = _band_keys(others, band)[others_with_text]
        order = np.argsort(other_keys, kind="stable")
        other_keys, other_rows = other_keys[order], others_with_text[order]
        waiting = with_text[partner[with_text] < 0]
        keys = _band_keys(signatures, band)[waiting]
        for place in _places(other_keys, keys):
            same = (other_keys[place] >> _BUCKET_BITS) == (keys >> _BUCKET_BITS)
            near = _near_enough(
                signatures, others, waiting[same], other_rows[place[same]], threshold
            )
            partner[near[0]] = near[1]
    return partner


def _rows_with_text(signatures: Signatures) -> Indices:
    return np.flatnonzero((signatures[:, :BAND_HASHES] != NO_TEXT).any(axis=1))


def _band_keys(signatures: Signatures, band: int) -> npt.NDArray[np.uint64]:
    """Return 40 bits of the band, which make the bucket, then 24 of the next one.

    In a bucket that holds several clusters, the next band sorts the rows of one together.
    """
    own = _fold_band(signatures, band)
    following = _fold_band(signatures, (band + 1) % NUM_BANDS)
    return own >> _BUCKET_BITS << _BUCKET_BITS | following >> np.uint64(40)


def _fold_band(signatures: Signatures, band: int) -> npt.NDArray[np.uint64]:
    first = band * BAND_HASHES
    folded = np.zeros(len(signatures), dtype=np.uint64)
    for index in range(first, first + BAND_HASHES):
        folded = mix(folded + signatures[:, index])
    return folded


def _candidates(
    rows: Indices, buckets: npt.NDArray[np.uint64]
) -> Iterator[tuple[Indices, Indices]]:
    """Pair each row of a bucket with the one before it, and with the bucket's first."""
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = buckets[1:] != buckets[:-1]
    places = np.flatnonzero(~is_first)
    yield rows[places - 1], rows[places]
    firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(rows)), 0))[places]
    is_other = firsts != places - 1
    yield rows[firsts[is_other]], rows[places[is_other]]


def _places(sorted_keys: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]) -> Iterator[Indices]:
    """Where in sorted keys to look for each key's bucket: beside the key, and at the start."""
    last = len(sorted_keys) - 1
    beside = np.searchsorted(sorted_keys, keys)
    yield np.minimum(beside, last)
    yield np.maximum(beside - 1, 0)
    yield np.minimum(np.searchsorted(sorted_keys, keys >> _BUCKET_BITS << _BUCKET_BITS), last)


def _near_enough(
    signatures: Signatures, others: Signatures, first: Indices, second: Indices, threshold: float
) -> tuple[Indices, Indices]:
    is_near = np.zeros(len(first), dtype=bool)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        is_near[part] = _similarity(signatures, others, first[part], second[part]) >= threshold
    return first[is_near], second[is_near]


def _similarity(
    signatures: Signatures, others: Signatures, first: Indices, second: Indices
) -> npt.NDArray[np.float64]:
    return (signatures[first] == others[second]).mean(axis=1)


class _Links:
    """Rows that belong together: `root` is the least row of a row's cluster.

    `partner` is a row to which a row was found to be near, or -1.
    """

    def __init__(self, count: int) -> None:
        self.root = np.arange(count)
        self.partner = np.full(count, -1, dtype=np.int64)

    def apart(self, first: Indices, second: Indices) -> tuple[Indices, Indices]:
        """Leave out pairs that are known to belong together."""
        unknown = self.root[first] != self.root[second]
        return first[unknown], second[unknown]

    def join(self, first: Indices, second: Indices) -> None:
        """Join the clusters of each pair."""
        for one, other in ((first, second), (second, first)):
            is_new = self.partner[one] < 0
            self.partner[one[is_new]] = other[is_new]
        while len(first):
            low = np.minimum(self.root[first], self.root[second])
            high = np.maximum(self.root[first], self.root[second])
            np.minimum.at(self.root, high, low)
            self._shorten()
            first, second = self.apart(first, second)

    def _shorten(self) -> None:
        """Let every row name its cluster's least row directly."""
        while True:
            further = self.root[self.root]
            if np.array_equal(further, self.root):
                return
            self.root = further


def _describe(signatures: Signatures, links: _Links, max_pairs: int) -> NearRows:
    near = np.flatnonzero(links.partner >= 0)
    roots, sizes = np.unique(links.root[near], return_counts=True)
    chosen = roots[:max_pairs]
    return NearRows(
        rows=len(near),
        clusters=len(roots),
        largest=int(sizes.max(initial=0)),
        pairs=_pairs(signatures, signatures, chosen, links.partner[chosen]),
    )


def _pairs(
    signatures: Signatures, others: Signatures, first: Indices, second: Indices
) -> tuple[NearPair, ...]:
    columns: tuple[list[Any], ...] = (
        first.tolist(),
        second.tolist(),
        _similarity(signatures, others, first, second).tolist(),
    )
    return tuple(NearPair(*values) for values in zip(*columns, strict=True))
