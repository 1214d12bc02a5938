"""Which held-out rows are also trained, letter by letter or nearly: no score of them is honest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunesmith.data.near import near_partners
from tunesmith.data.pipeline import RunData
from tunesmith.data.prepared.sides import Indices, rows_in_both
from tunesmith.data.side import Side


@dataclass(frozen=True)
class AlsoTrained:
    """The names of held-out rows that a training row says, too; no row is in both."""

    exact: frozenset[str]
    near: frozenset[str]

    @property
    def rows(self) -> frozenset[str]:
        """All of them."""
        return self.exact | self.near


def find_also_trained(data: RunData) -> AlsoTrained:
    """Hold every held-out row against those that are trained."""
    held_out, trained = data.validation_side, data.train_side
    rows, others = (side.file.store.rows[side.rows] for side in (held_out, trained))
    exact = rows_in_both(rows, others)
    is_new = np.ones(len(rows), dtype=bool)
    is_new[exact] = False
    left = np.flatnonzero(is_new)
    partners = near_partners(
        held_out.file.store.signatures[held_out.rows[left]],
        trained.file.store.signatures[trained.rows],
    )
    return AlsoTrained(_names(held_out, exact), _names(held_out, left[partners >= 0]))


def _names(side: Side, places: Indices) -> frozenset[str]:
    return frozenset(side.file.store.row_id(int(row)) for row in side.rows[places])
