"""Rows that are to be answered, read as the rows of training were, with or without their answers.

    reading.json    in a run's folder: the form and the columns that the training rows had
    AskedRows       the rows of a file in their order: a sample each, or what is wrong with it

A sample that is only asked ends in an empty reply or completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from tunesmith.data.conversation import Sample
from tunesmith.data.fields import MISSING, lookup
from tunesmith.data.formats import TaskName
from tunesmith.data.judgement import ROWS_TO_JUDGE_BY, Judgement, judge, judge_as
from tunesmith.data.row_checker import RowChecker
from tunesmith.data.rows import DataFile, FileOptions, Row, RowFault, read_rows
from tunesmith.data.tally import Tally
from tunesmith.recipe.data import DataPart


@dataclass(frozen=True, slots=True)
class FaultyRow:
    """A row that cannot be asked."""

    row_id: str
    faults: tuple[RowFault, ...]


@dataclass(frozen=True, eq=False)
class AskedRows:
    """The rows of files, which may be gone through again and again."""

    files: tuple[DataFile, ...]
    part: DataPart
    judgement: Judgement
    renamed: Mapping[str, str]
    """The files' names of columns, and what the same columns were called in training."""

    def __iter__(self) -> Iterator[Sample | FaultyRow]:
        """Yield every row in its place."""
        return self._checked(RowChecker(self.judgement, self.part))

    def check(self) -> Tally:
        """Go through all rows and return what was found, faults and counts."""
        checker = RowChecker(self.judgement, self.part)
        for _ in self._checked(checker):
            pass
        return checker.tally

    def _checked(self, checker: RowChecker) -> Iterator[Sample | FaultyRow]:
        for row in read_rows(self.files, options=FileOptions.of(self.part)):
            named = _rename(row, self.renamed) if isinstance(row, Row) else row
            sample = checker.check(named)
            yield FaultyRow(row.row_id, tuple(checker.last_faults)) if sample is None else sample


def asked_rows(
    files: tuple[DataFile, ...],
    part: DataPart,
    task: TaskName | None,
    trained: Judgement | None = None,
    *,
    source: str,
) -> AskedRows:
    """Judge the first rows, by how the rows of training were read where that is known.

    Args:
        files: The files, which `source` names.
        part: How rows are read. Its columns are the files' own names, and beside `trained` only
            those that differ from the ones of training.
        task: What the rows are for; None for whatever their form serves.
        trained: How the rows of training were read.
        source: What faults call the files.
    """
    first = list(islice(read_rows(files, ROWS_TO_JUDGE_BY, FileOptions.of(part)), ROWS_TO_JUDGE_BY))
    rows = [row for row in first if isinstance(row, Row)]
    if trained is None:
        return AskedRows(files, part, judge(rows, part, task, file=source, asked=True), {})
    own = part.columns.model_dump(exclude_none=True) if part.columns else {}
    renamed = {name: trained.columns.get(word, word) for word, name in own.items()}
    judgement = judge_as(trained, [_rename(row, renamed) for row in rows], file=source)
    return AskedRows(files, part, judgement, renamed)


def reading_record(judgement: Judgement, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Return what `reading.json` holds; `labels` are the classes that an answer may be."""
    return {
        "task": judgement.task,
        "form": judgement.form,
        "columns": dict(judgement.columns),
        "several_labels": judgement.several_labels,
        "labels": list(labels),
    }


def trained_reading(record: Mapping[str, Any], *, file: str) -> Judgement:
    """Return how the rows of training were read, from the content of `reading.json`."""
    return Judgement(
        file=file,
        form=record["form"],
        columns=record["columns"],
        given={},
        task=record["task"],
        unsuitable=None,
        several_labels=record["several_labels"],
    )


def _rename(row: Row, renamed: Mapping[str, str]) -> Row:
    """Give columns the names that they had in training."""
    found = {name: lookup(row.values, name) for name in renamed}
    values = {name: value for name, value in row.values.items() if name not in renamed}
    there = {renamed[name]: value for name, value in found.items() if value is not MISSING}
    return replace(row, values={**values, **there}) if renamed else row
