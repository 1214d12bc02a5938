"""Rows that repeat others: nearly, within a side, and equal or nearly, between two sides.

Between sides this is contamination: what is measured was also trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tunesmith.data.near import MAX_PAIRS, NearPair, Signatures, near_pairs, near_pairs_between
from tunesmith.data.prepared.sides import Hashes, Indices, equal_partners


@dataclass(frozen=True, slots=True)
class RowText:
    """A row's name and the beginning of its text; `hidden` characters more are not shown."""

    row_id: str
    text: str
    hidden: int = 0


# Looks up a row by side and place in the side.
RowLookUp = Callable[[str, int], RowText]


@dataclass(frozen=True, slots=True)
class RowPair:
    """Two rows side by side; a similarity of 1.0 may still be a difference in white space."""

    first: RowText
    second: RowText
    similarity: float


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Rows of a side that another row nearly repeats, and in how many clusters they lie."""

    rows: int
    clusters: int
    largest: int
    pairs: tuple[RowPair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How many rows of a side are in another one, letter by letter or nearly; no row is in both."""

    side: str
    other: str
    exact: int
    near: int
    exact_pairs: tuple[RowPair, ...]
    near_pairs: tuple[RowPair, ...]


def find_near(side: str, signatures: Signatures, look_up: RowLookUp) -> NearDuplicates:
    """Find the rows of a side that nearly repeat each other."""
    found = near_pairs(signatures)
    pairs = _show(found.pairs, side, side, look_up)
    return NearDuplicates(found.rows, found.clusters, found.largest, pairs)


@dataclass(frozen=True, eq=False)
class Comparable:
    """What two sides are compared by: hashes of what rows say, and signatures."""

    side: str
    contents: Hashes | None
    signatures: Signatures | None


def find_overlap(one: Comparable, other: Comparable, look_up: RowLookUp) -> Overlap:
    """Find the rows of one side that are in the other."""
    rows, partners = _equal_rows(one.contents, other.contents)
    num_near, near = _near_rows(one.signatures, other.signatures, rows)
    first = zip(rows[:MAX_PAIRS].tolist(), partners[:MAX_PAIRS].tolist(), strict=True)
    exact = [NearPair(row, partner, 1.0) for row, partner in first]
    return Overlap(
        side=one.side,
        other=other.side,
        exact=len(rows),
        near=num_near,
        exact_pairs=_show(exact, one.side, other.side, look_up),
        near_pairs=_show(near, one.side, other.side, look_up),
    )


def _equal_rows(contents: Hashes | None, others: Hashes | None) -> tuple[Indices, Indices]:
    """Return the rows that are in both, and for each the first equal one of the others."""
    if contents is None or others is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    partners = equal_partners(contents, others)
    rows = np.flatnonzero(partners >= 0)
    return rows, partners[rows]


def _near_rows(
    signatures: Signatures | None, others: Signatures | None, equal: Indices
) -> tuple[int, Sequence[NearPair]]:
    if signatures is None or others is None:
        return 0, ()
    is_new = np.ones(len(signatures), dtype=bool)
    is_new[equal] = False
    rows = np.flatnonzero(is_new)
    found = near_pairs_between(signatures[rows], others)
    return found.rows, [
        NearPair(int(rows[pair.first]), pair.second, pair.similarity) for pair in found.pairs
    ]


def _show(
    pairs: Sequence[NearPair], side: str, other: str, look_up: RowLookUp
) -> tuple[RowPair, ...]:
    return tuple(
        RowPair(look_up(side, pair.first), look_up(other, pair.second), pair.similarity)
        for pair in pairs
    )
