"""The rows of a side as a sequence of examples, held to the length limit.

What is held in memory is two numbers an example; its tokens are read when it is asked for.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import numpy.typing as npt

from tunesmith.data.conversation import Sample
from tunesmith.data.example import Example, Fitted, fit, has_windows
from tunesmith.data.prepared.sides import Indices
from tunesmith.data.prepared.store import Store
from tunesmith.data.rows import RowFault
from tunesmith.recipe.data import DataPart

TOO_LONG = "longer than max_length"
UNSUPERVISED = "no supervised token"


@dataclass(frozen=True, eq=False)
class Examples(Sequence[Example]):
    """Examples of a store by index. `pieces` says which part of an example that was cut it is."""

    store: Store
    part: DataPart
    indices: Indices
    pieces: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    supervised: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Read one example, or several."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        example = self.store.example(int(self.indices[index]))
        if len(example.tokens) <= self.part.max_length:
            return example
        return _fit(example, self.part).examples[self.pieces[index]]

    def __iter__(self) -> Iterator[Example]:
        """Read one example after the other."""
        return (self[index] for index in range(len(self)))

    @property
    def rows(self) -> Indices:
        """The row of each example."""
        return self.store.examples["row"][self.indices].astype(np.int64)

    @property
    def is_rejected(self) -> npt.NDArray[np.bool_]:
        """Whether each example is the worse answer of a preference, or one rated bad."""
        return self.store.examples["part"][self.indices] == b"rejected"

    def labels_used(self) -> set[str]:
        """Return the labels that a head is to say of these examples."""
        codes = self.store.label_codes(self.indices)
        return {self.store.labels[code] for code in codes if code >= 0}

    def with_several_labels(self) -> Iterator[Example]:
        """Yield the examples that have not one label, but none or several."""
        for index in np.flatnonzero(self.store.num_labels(self.indices) != 1):
            yield self[int(index)]

    def spread(self, most: int) -> Examples:
        """Return at most so many of these examples, evenly spread over all."""
        if len(self) <= most:
            return self
        return self.take(np.linspace(0, len(self) - 1, most).round().astype(np.int64))

    def spread_rows(self, most: int) -> Examples:
        """Return all examples of at most so many rows, evenly spread over all rows."""
        rows = np.unique(self.rows)
        if len(rows) <= most:
            return self
        chosen = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
        return self.take(np.flatnonzero(np.isin(self.rows, chosen)))

    def take(self, chosen: Indices) -> Examples:
        """Return some of these examples."""
        return Examples(
            store=self.store,
            part=self.part,
            indices=self.indices[chosen],
            pieces=self.pieces[chosen],
            lengths=self.lengths[chosen],
            supervised=self.supervised[chosen],
        )

    def fingerprint(self) -> str:
        """Hash what is trained: tokens and weights of every example, in order, and the cut."""
        part = self.part
        shared = f" {part.stride}" if part.overflow == "chunk" else ""
        digest = hashlib.sha256(f"{part.max_length} {part.overflow}{shared}".encode())
        digest.update(self.store.examples["digest"][self.indices].tobytes())
        digest.update(np.ascontiguousarray(self.lengths).tobytes())
        return digest.hexdigest()


def samples_of(examples: Examples) -> Samples:
    """Return the rows of examples as samples, each once."""
    return Samples(examples.store, np.unique(examples.rows))


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """The samples of some rows, read when they are asked for."""

    store: Store
    rows: Indices

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Read one sample, or several."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        sample = self.store.sample(int(self.rows[index]))
        assert sample is not None, "the samples of held-out rows are kept"
        return sample


@dataclass(frozen=True, eq=False)
class FittedSide:
    """A side after the length limit: what is used, and what that cost.

    `dropped` are examples that are not used at all, each with its reason; a row may have several,
    but is counted once. `lost_` are the tokens that
    cutting and dropping took away, or would: rows at fault count as if they were cut.
    """

    examples: Examples
    faults: tuple[RowFault, ...]
    num_faults: int
    dropped: tuple[tuple[int, str], ...]
    rows_too_long: int = 0
    rows_truncated: int = 0
    lost_tokens: int = 0
    lost_supervised_tokens: int = 0

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows are not used, or not with all of their examples, by reason."""
        rows = self.examples.store.examples["row"]
        reasons = {(int(rows[index]), reason) for index, reason in self.dropped}
        return dict(Counter(reason for _, reason in reasons))

    @property
    def rows_dropped(self) -> int:
        """How many rows that is, for whatever reason."""
        return _count_rows(self.examples.store, [index for index, _ in self.dropped])


@dataclass
class _Fitting:
    """Collects what the length limit does to the examples that are too long."""

    faults: list[RowFault] = field(default_factory=list[RowFault])
    num_faults: int = 0
    dropped: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    # index -> (piece, length, supervised) of each piece that is used
    pieces: dict[int, list[tuple[int, int, int]]] = field(
        default_factory=dict[int, list[tuple[int, int, int]]]
    )
    truncated: list[int] = field(default_factory=list[int])
    lost_tokens: int = 0
    lost_supervised_tokens: int = 0


_MAX_FAULTS_KEPT = 1000


def fit_side(
    store: Store, rows: Indices, part: DataPart, *, whole_rows: bool = False
) -> FittedSide:
    """Hold the examples of rows to the length limit; faults are those of `overflow: error`.

    With `whole_rows` a row is used with all of its examples or not at all: a chosen answer without
    its rejected one says nothing.
    """
    indices = examples_of(store, rows)
    about = store.examples[indices]
    lengths, supervised = about["length"].astype(np.int64), about["supervised"].astype(np.int64)
    fitting = _Fitting()
    fitting.dropped += [(int(index), UNSUPERVISED) for index in indices[supervised == 0]]
    too_long = indices[(lengths > part.max_length) & (supervised > 0)]
    for index in too_long:
        _fit_one(store, int(index), part, fitting)
    whole = indices[(lengths <= part.max_length) & (supervised > 0)]
    if whole_rows:
        whole = _drop_whole_rows(store, whole, fitting)
    return FittedSide(
        examples=_join(store, part, whole, fitting),
        faults=tuple(fitting.faults),
        num_faults=fitting.num_faults,
        dropped=tuple(fitting.dropped),
        rows_too_long=_count_rows(store, too_long),
        rows_truncated=_count_rows(store, fitting.truncated),
        lost_tokens=fitting.lost_tokens,
        lost_supervised_tokens=fitting.lost_supervised_tokens,
    )


def _drop_whole_rows(store: Store, whole: Indices, fitting: _Fitting) -> Indices:
    """Take the other examples of rows away that lost one; each such row is named once."""
    rows = store.examples["row"]
    first = {int(rows[index]): (index, reason) for index, reason in reversed(fitting.dropped)}
    fitting.dropped = sorted(first.values())
    for index in [index for index in fitting.pieces if int(rows[index]) in first]:
        del fitting.pieces[index]
    fitting.truncated = [index for index in fitting.truncated if int(rows[index]) not in first]
    return whole[~np.isin(rows[whole], list(first))]


def examples_of(store: Store, rows: Indices) -> Indices:
    """Return the indices of all examples of some rows."""
    if len(store.examples) == len(store.rows):  # the usual case: one example a row
        return rows
    is_wanted = np.zeros(len(store.rows), dtype=bool)
    is_wanted[rows] = True
    return np.flatnonzero(is_wanted[store.examples["row"]])


def _count_rows(store: Store, indices: Indices | list[int]) -> int:
    chosen = np.asarray(indices, dtype=np.int64)
    return len(np.unique(store.examples["row"][chosen]))


def _fit_one(store: Store, index: int, part: DataPart, fitting: _Fitting) -> None:
    example = store.example(index)
    fitted = _fit(example, part)
    if not fitted.examples and part.overflow in ("error", "chunk"):
        fitting.num_faults += 1
        if len(fitting.faults) < _MAX_FAULTS_KEPT:
            fitting.faults.append(_too_long(example, part))
        if_cut = fit(example, part.max_length, "truncate")
        fitting.lost_tokens += if_cut.lost_tokens
        fitting.lost_supervised_tokens += if_cut.lost_supervised_tokens
        return
    fitting.lost_tokens += fitted.lost_tokens
    fitting.lost_supervised_tokens += fitted.lost_supervised_tokens
    useful = [
        (piece, len(one.tokens), one.supervised_tokens)
        for piece, one in enumerate(fitted.examples)
        if one.supervised_tokens
    ]
    if not useful:
        fitting.dropped.append((index, UNSUPERVISED if fitted.examples else TOO_LONG))
        return
    fitting.truncated += [index] * (fitted.lost_tokens > 0)
    fitting.pieces[index] = useful


def _fit(example: Example, part: DataPart) -> Fitted:
    return fit(example, part.max_length, part.overflow, stride=part.stride)


def _join(store: Store, part: DataPart, whole: Indices, fitting: _Fitting) -> Examples:
    """Put whole and cut examples together, in the file's order."""
    cut = [
        (index, piece, length, supervised)
        for index, pieces in fitting.pieces.items()
        for piece, length, supervised in pieces
    ]
    about = store.examples[whole]
    table = np.array(cut, dtype=np.int64).reshape(-1, 4)
    indices = np.concatenate([whole, table[:, 0]])
    pieces = np.concatenate([np.zeros(len(whole), dtype=np.int64), table[:, 1]])
    order = np.lexsort((pieces, indices))
    lengths = np.concatenate([about["length"].astype(np.int64), table[:, 2]])
    supervised = np.concatenate([about["supervised"].astype(np.int64), table[:, 3]])
    return Examples(
        store=store,
        part=part,
        indices=indices[order],
        pieces=pieces[order].astype(np.int32),
        lengths=lengths[order],
        supervised=supervised[order],
    )


def _too_long(example: Example, part: DataPart) -> RowFault:
    wanted = "truncate or drop" if part.overflow == "error" else "truncate, drop or error"
    fix = f"raise data.max_length, or set data.overflow to {wanted}"
    if has_windows(example):
        fix = (
            "set data.overflow: chunk to read the context in windows, or raise data.max_length"
            if part.overflow == "error"
            else "raise data.max_length, or data.stride to more tokens than the answer has"
        )
    return RowFault(
        file=example.file,
        line=example.line,
        row_id=example.row_id,
        found=f"the row has {len(example.tokens)} tokens",
        expected=f"at most data.max_length = {part.max_length}",
        fix=fix,
        reason="too long",
    )
