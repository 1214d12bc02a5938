"""The stages in order: files to checked rows, and with a tokenizer to the examples of both sides.

Nothing is dropped or cut in silence: every row that does not come out is counted, and named with a
reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tunesmith.core.errors import DataError, Fault
from tunesmith.data.formats import FormatName, TaskName
from tunesmith.data.prepared.examples import Examples, fit_side
from tunesmith.data.prepared.prepare import PreparedFile, Tell, prepare_file
from tunesmith.data.prepared.sides import Indices, distinct_rows, rows_in_both, split_by_hash
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.rows import RowFault
from tunesmith.data.side import DroppedRow as DroppedRow
from tunesmith.data.side import Side as Side
from tunesmith.data.validate import Note, Tally, raise_tallies
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCounts:
    """How many rows came in and what became of them, before any length limit.

    `overlap` counts held-out rows of a file of their own that are also trained: they stay, and are
    a warning. `ignored_columns` are columns that the form does not read, with the rows that have
    them.
    """

    rows_read: int
    duplicates: int
    validation_rows_read: int = 0
    validation_duplicates: int = 0
    overlap: int = 0
    ignored_columns: tuple[tuple[str, int], ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RunData:
    """What a run trains on and measures with."""

    part: DataPart
    task: TaskName
    format: FormatName
    counts: DataCounts
    train_side: Side
    validation_side: Side
    test_side: Side | None = None

    @property
    def train(self) -> Examples:
        """The examples to learn from."""
        return self.train_side.examples

    @property
    def validation(self) -> Examples:
        """The held-out examples."""
        return self.validation_side.examples

    @property
    def sides(self) -> dict[str, Side]:
        """The sides that there are, by name."""
        test = {"test": self.test_side} if self.test_side else {}
        return {"train": self.train_side, "validation": self.validation_side, **test}

    @property
    def files(self) -> tuple[PreparedFile, ...]:
        """The files that were read, each once."""
        return tuple(dict.fromkeys(side.file for side in self.sides.values()))

    def dropped(self) -> Iterator[DroppedRow]:
        """Every row that is not used, duplicates apart: faults first, then what did not fit."""
        for file in self.files:
            for line in file.dropped_lines():
                yield DroppedRow(line["row_id"], f"{line['reason']}: {line['found']}")
        for side in (self.train_side, self.validation_side):
            yield from side.dropped(self.part)

    def dropped_reasons(self) -> dict[str, int]:
        """How many rows are not used, by reason; a row may have several."""
        reasons = self.refused_reasons()
        for side in (self.train_side, self.validation_side):
            reasons.update(side.fitted.reasons)
        return dict(reasons.most_common())

    def refused_reasons(self) -> Counter[str]:
        """How many rows could not be read or rendered, by reason."""
        reasons: Counter[str] = Counter()
        for file in self.files:
            reasons.update(file.tally.reasons)
        return reasons

    def rows_dropped(self) -> int:
        """How many rows `dropped` names, each once."""
        refused = sum(file.tally.rows_refused for file in self.files)
        return refused + sum(
            side.fitted.rows_dropped for side in (self.train_side, self.validation_side)
        )


def check_data(part: DataPart, task: TaskName, *, tell: Tell) -> tuple[PreparedFile, ...]:
    """Read and check every row of every file; needs no tokenizer.

    Raises:
        DataError: with every fault of every file.
    """
    return _prepare_files(part, task, None, tell)


def prepare_data(
    part: DataPart, task: TaskName, tokenizer: TokenizerSource, *, tell: Tell
) -> RunData:
    """Make rows ready for a run.

    Raises:
        DataError: with every row at fault, or if nothing is trained.
    """
    data = lay_out(part, task, tokenizer, tell=tell)
    require_trainable(data, tokenizer)
    return data


def lay_out(
    part: DataPart,
    task: TaskName,
    tokenizer: TokenizerSource,
    *,
    tell: Tell,
    keep_texts: bool = False,
) -> RunData:
    """Read, check, render and split; what was made ready before is found in the cache.

    With `keep_texts` the samples of trained rows are kept, too, so that they can be asked.

    Raises:
        DataError: with every row that is at fault by itself; rows that do not fit are told by
            `require_trainable`.
    """
    train, *others = _prepare_files(part, task, tokenizer, tell, keep_texts=keep_texts)
    assert train.judgement.form is not None, "a file without a form is a fault"
    if isinstance(part.validation, Share):
        _require_groups(train, part)
        split = split_by_hash(train.store.rows, part.validation.fraction)
        train_side = _side(train, split.train, part, task, split.duplicates)
        validation_side = _side(train, split.validation, part, task, 0)
    else:
        held_out, *others = others
        train_side = _whole_file(train, part, task)
        validation_side = _whole_file(held_out, part, task)
    return RunData(
        part=part,
        task=task,
        format=train.judgement.form,
        counts=_count(train_side, validation_side),
        train_side=train_side,
        validation_side=validation_side,
        test_side=_whole_file(others[0], part, task) if others else None,
    )


def _require_groups(file: PreparedFile, part: DataPart) -> None:
    """Raise a DataError where the rows are of one group, so that no side could be split off."""
    if part.group and len(np.unique(file.store.rows["group"])) < 2:
        raise DataError(
            Fault(
                found=f"all rows have the same {part.group}, so none can be held out by it",
                where=f"{file.source}, data.group",
                fix="name a column of several values, or a file in data.validation",
            )
        )


def _whole_file(file: PreparedFile, part: DataPart, task: TaskName) -> Side:
    rows = distinct_rows(file.store.rows)
    return _side(file, rows, part, task, len(file.store.rows) - len(rows))


def _prepare_files(
    part: DataPart,
    task: TaskName,
    tokenizer: TokenizerSource | None,
    tell: Tell,
    *,
    keep_texts: bool = False,
) -> tuple[PreparedFile, ...]:
    """Prepare every file that the recipe names and raise the faults of all of them together."""
    given = [part.validation] if isinstance(part.validation, str) else []
    sources = [part.train, *given, *([part.test] if part.test else [])]
    share = part.validation.fraction if isinstance(part.validation, Share) else 1.0
    share = 1.0 if keep_texts else share
    files: list[PreparedFile] = []
    missing: list[Fault] = []
    for source in sources:
        is_split = source == part.train
        try:
            file = prepare_file(
                source, part if is_split else part.model_copy(update={"group": None}),
                task, tokenizer, keep_below=share if is_split else 1.0, tell=tell,
            )  # fmt: skip
        except DataError as error:
            missing += error.faults
            continue
        files.append(file)
    _raise_all(missing, [(file.source, file.tally) for file in files], part)
    return tuple(files)


def _raise_all(missing: list[Fault], tallies: list[tuple[str, Tally]], part: DataPart) -> None:
    try:
        raise_tallies(tallies, part.on_bad_row)
    except DataError as error:
        raise DataError([*missing, *error.faults], total=len(missing) + error.total) from error
    if missing:
        raise DataError(missing)


def _side(
    file: PreparedFile, rows: Indices, part: DataPart, task: TaskName, duplicates: int
) -> Side:
    fitted = fit_side(file.store, rows, part, whole_rows=task == "preference")
    return Side(file=file, rows=rows, fitted=fitted, duplicates=duplicates)


def _count(train: Side, held_out: Side) -> DataCounts:
    tally = train.file.tally
    own = DataCounts(
        rows_read=tally.rows_read,
        duplicates=train.duplicates,
        ignored_columns=tuple(tally.ignored.most_common()),
        notes=tally.notes,
    )
    if held_out.file is train.file:
        return own
    both = rows_in_both(held_out.file.store.rows[held_out.rows], train.file.store.rows[train.rows])
    return replace(
        own,
        validation_rows_read=held_out.file.tally.rows_read,
        validation_duplicates=held_out.duplicates,
        overlap=len(both),
        notes=own.notes + held_out.file.tally.notes,
    )


def require_trainable(data: RunData, tokenizer: TokenizerSource) -> None:
    """Raise a DataError with every row that does not fit, or if nothing is trained."""
    sides = (data.train_side, data.validation_side)
    faults: list[RowFault] = [fault for side in sides for fault in side.fitted.faults]
    if faults:
        total = sum(side.fitted.num_faults for side in sides)
        raise DataError([fault.to_fault() for fault in faults], total=total)
    if not len(data.train):
        raise DataError(_nothing_to_train(data, tokenizer))


def _nothing_to_train(data: RunData, tokenizer: TokenizerSource) -> Fault:
    reasons = sorted({row.reason for row in data.train_side.dropped(data.part)})
    name = tokenizer.tokenizer.name_or_path.rstrip("/").rsplit("/", 1)[-1]
    return Fault(
        found=(
            f"0 trainable tokens in {len(data.train_side.rows)} rows, rendered with {name} "
            f"({'; '.join(reasons[:3]) or 'no rows on the training side'})"
        ),
        where=data.part.train,
        fix="give replies a weight of 1, raise data.max_length, or add rows",
    )
