"""One side of a run's rows: what is trained, measured, or kept for a last test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tunesmith.data.prepared.examples import (
    TOO_LONG,
    UNSUPERVISED,
    Examples,
    FittedSide,
    examples_of,
)
from tunesmith.data.prepared.prepare import PreparedFile
from tunesmith.data.prepared.sides import Indices
from tunesmith.data.prepared.store import CONTROL_TEXT, HAS_END
from tunesmith.recipe.data import DataPart


class DroppedRow(NamedTuple):
    """A row that is not used, and why."""

    row_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderCounts:
    """What the rows of one side came to, in tokens, and what the length limit cost.

    `rows` are those of the file that are used; `examples` are more where a row is cut up, or has
    several.
    """

    rows: int
    examples: int
    tokens: int
    supervised_tokens: int
    rows_truncated: int = 0
    rows_too_long: int = 0
    rows_without_supervised_tokens: int = 0
    lost_tokens: int = 0
    lost_supervised_tokens: int = 0
    rows_without_end_of_turn: int = 0
    rows_with_control_text: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One side: the file it comes from, its rows there, and what the length limit left of them."""

    file: PreparedFile
    rows: Indices
    fitted: FittedSide
    duplicates: int = 0

    @property
    def examples(self) -> Examples:
        """The examples that are used."""
        return self.fitted.examples

    @property
    def all_examples(self) -> Indices:
        """The indices of all examples of the rows, used or not."""
        return examples_of(self.file.store, self.rows)

    @property
    def classes(self) -> set[str]:
        """The classes of its rows, where they have one each."""
        store = self.file.store
        codes = np.unique(store.rows["label"][self.rows])
        return {store.labels[code] for code in codes if code >= 0}

    def counts(self) -> RenderCounts:
        """Return the numbers of this side."""
        about = self.file.store.examples[self.examples.indices]
        has_no_end, has_control = about["flags"] & HAS_END == 0, about["flags"] & CONTROL_TEXT > 0
        return RenderCounts(
            rows=len(np.unique(about["row"])),
            examples=len(self.examples),
            tokens=int(self.examples.lengths.sum()),
            supervised_tokens=int(self.examples.supervised.sum()),
            rows_truncated=self.fitted.rows_truncated,
            rows_too_long=self.fitted.rows_too_long,
            rows_without_supervised_tokens=self.fitted.reasons.get(UNSUPERVISED, 0),
            lost_tokens=self.fitted.lost_tokens,
            lost_supervised_tokens=self.fitted.lost_supervised_tokens,
            rows_without_end_of_turn=len(np.unique(about["row"][has_no_end])),
            rows_with_control_text=len(np.unique(about["row"][has_control])),
        )

    def dropped(self, part: DataPart) -> Iterator[DroppedRow]:
        """Name the rows that the length limit or missing weights took away."""
        store = self.file.store
        for index, reason in self.fitted.dropped:
            about = store.examples[index]
            text = f"{about['length']} tokens, more than max_length {part.max_length}"
            row_id = store.row_id(int(about["row"]))
            yield DroppedRow(row_id, text if reason == TOO_LONG else reason)
