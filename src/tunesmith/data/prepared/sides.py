"""Which rows are repeats, which are trained and which are held out, from their hashes alone.

A row's side follows from a hash of its own texts, or of the value of `data.group` that it shares
with others: a shuffled file splits the same way, and a row that is added later moves no other row
to the other side. Rows that differ only in their weights, or share a group, stay on one side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.prepared.store import Array

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Sides:
    """Indices of rows; both sides together are all rows that differ, in the file's order."""

    train: Indices
    validation: Indices
    duplicates: int


def distinct_rows(rows: Array) -> Indices:
    """Return the first of equal rows: same turns, same texts, same weights."""
    order = np.lexsort((rows["hash_low"], rows["hash_high"]))  # stable: the first row comes first
    high, low = rows["hash_high"][order], rows["hash_low"][order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return np.sort(order[is_first])


def split_by_hash(rows: Array, share: float) -> Sides:
    """Hold out about a share of the groups; from two on, neither side stays empty."""
    distinct = distinct_rows(rows)
    high = rows["group"][distinct]
    is_held_out = high < np.uint64(int(share * 2**64))
    if len(np.unique(high)) >= 2 and is_held_out.all() != (~is_held_out).all():
        # All fell on one side: the row whose hash is next to the limit crosses over.
        crossing = high.max() if is_held_out.all() else high.min()
        is_held_out ^= high == crossing
    return Sides(
        train=distinct[~is_held_out],
        validation=distinct[is_held_out],
        duplicates=len(rows) - len(distinct),
    )


def rows_in_both(rows: Array, other: Array) -> Indices:
    """Return the rows whose texts are also in `other`."""
    return np.flatnonzero(equal_partners(rows["side_high"], other["side_high"]) >= 0)


def equal_partners(contents: Hashes, others: Hashes) -> Indices:
    """Return for each row the first of `others` with the same texts, by their hashes, or -1."""
    if not len(others):
        return np.full(len(contents), -1, dtype=np.int64)
    order = np.argsort(others, kind="stable")
    ordered = others[order]
    place = np.minimum(np.searchsorted(ordered, contents), len(ordered) - 1)
    return np.where(ordered[place] == contents, order[place], -1)
