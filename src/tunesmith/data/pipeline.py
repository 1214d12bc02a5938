"""The stages in order: files to samples, and with a tokenizer samples to examples.

Nothing is dropped or cut in silence: every row that does not come out is counted, and named with a
reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tunesmith.core.errors import DataError, Fault
from tunesmith.data.conversation import Sample
from tunesmith.data.formats import FormatName, TaskName
from tunesmith.data.render import Example, fit, has_control_text, render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.samples import sample_path
from tunesmith.data.split import count_overlap, remove_duplicates, split_by_hash
from tunesmith.data.tokenizer import TextEncoder, Tokenizer
from tunesmith.data.validate import CheckedData, Note, check_file, raise_faults
from tunesmith.recipe.data import SAMPLE_PREFIX, DataPart
from tunesmith.recipe.share import Share


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCounts:
    """How many rows came in and what became of them, before any rendering.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedData:
    """Checked samples, each on its side."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    format: FormatName
    counts: DataCounts


class DroppedRow(NamedTuple):
    """A row that is not used, and why."""

    row_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderCounts:
    """What the rows of one side came to, in tokens, and what the length limit cost."""

    rows: int
    tokens: int
    supervised_tokens: int
    rows_truncated: int = 0
    rows_too_long: int = 0
    rows_without_supervised_tokens: int = 0
    lost_tokens: int = 0
    lost_supervised_tokens: int = 0
    rows_without_end_of_turn: int = 0
    rows_with_control_text: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedData:
    """Examples of both sides; `validation_samples[i]` is the sample of `validation[i]`."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    validation_samples: tuple[Sample, ...]
    dropped: tuple[DroppedRow, ...]
    counts: RenderCounts
    validation_counts: RenderCounts


def load_data(part: DataPart, task: TaskName) -> LoadedData:
    """Read, check, and split; raises DataError with every fault of every file."""
    train = check_file(resolve_path(part.train), part, task)
    given = None
    if isinstance(part.validation, str):
        given = check_file(resolve_path(part.validation), part, task)
    raise_faults([train] if given is None else [train, given])
    assert train.format is not None, "a file without a form is a fault"
    distinct = remove_duplicates(train.samples)
    counts = DataCounts(
        rows_read=train.rows_read,
        duplicates=distinct.duplicates,
        ignored_columns=train.ignored_columns,
        notes=train.notes,
    )
    if isinstance(part.validation, Share):
        split = split_by_hash(distinct.samples, part.validation.fraction)
        return LoadedData(
            train=split.train, validation=split.validation, format=train.format, counts=counts
        )
    assert given is not None, "validation is a share or a file"
    return _with_file(distinct.samples, given, train.format, counts)


def resolve_path(source: str) -> Path:
    """Return the file that a recipe's text names: a built-in sample, or a path (~ is expanded)."""
    if source.startswith(SAMPLE_PREFIX):
        return sample_path(source.removeprefix(SAMPLE_PREFIX))
    return Path(source).expanduser()


def render_data(
    loaded: LoadedData, tokenizer: Tokenizer, part: DataPart, task: TaskName
) -> RenderedData:
    """Render both sides; raises DataError with every row at fault, or if nothing is trained."""
    encoder = TextEncoder(tokenizer)
    train = _render_side(loaded.train, encoder, part, task)
    validation = _render_side(loaded.validation, encoder, part, task)
    faults = [fault.to_fault() for fault in (*train.faults, *validation.faults)]
    if faults:
        raise DataError(faults)
    if not train.examples:
        raise DataError(_nothing_to_train(loaded.train, train.dropped, encoder, part))
    return RenderedData(
        train=tuple(train.examples),
        validation=tuple(validation.examples),
        validation_samples=tuple(validation.samples),
        dropped=(*train.dropped, *validation.dropped),
        counts=train.counts(),
        validation_counts=validation.counts(),
    )


def _with_file(
    train: tuple[Sample, ...], given: CheckedData, format: FormatName, counts: DataCounts
) -> LoadedData:
    held_out = remove_duplicates(given.samples)
    return LoadedData(
        train=train,
        validation=held_out.samples,
        format=format,
        counts=DataCounts(
            rows_read=counts.rows_read,
            duplicates=counts.duplicates,
            validation_rows_read=given.rows_read,
            validation_duplicates=held_out.duplicates,
            overlap=count_overlap(train, held_out.samples),
            ignored_columns=counts.ignored_columns,
            notes=counts.notes + given.notes,
        ),
    )


class _Side:
    """Collects what comes out of one side's samples."""

    def __init__(self) -> None:
        self.examples: list[Example] = []
        self.samples: list[Sample] = []
        self.dropped: list[DroppedRow] = []
        self.faults: list[RowFault] = []
        self.rows_truncated = self.rows_too_long = self.rows_unsupervised = 0
        self.lost_tokens = self.lost_supervised_tokens = 0
        self.rows_with_control_text = 0

    def add(self, sample: Sample, example: Example, part: DataPart) -> None:
        if example.supervised_tokens == 0:
            self._drop_unsupervised(example)
            return
        fitted = fit(example, part.max_length, part.overflow)
        if fitted.example is None and part.overflow == "error":
            self.faults.append(_too_long(example, part))
            return
        self.lost_tokens += fitted.lost_tokens
        self.lost_supervised_tokens += fitted.lost_supervised_tokens
        self.rows_too_long += int(fitted.lost_tokens > 0)
        if fitted.example is None:
            reason = f"{len(example.tokens)} tokens, more than max_length {part.max_length}"
            self.dropped.append(DroppedRow(example.row_id, reason))
        elif fitted.example.supervised_tokens == 0:
            self._drop_unsupervised(example)
        else:
            self.rows_truncated += int(fitted.lost_tokens > 0)
            self.examples.append(fitted.example)
            self.samples.append(sample)

    def _drop_unsupervised(self, example: Example) -> None:
        self.rows_unsupervised += 1
        self.dropped.append(DroppedRow(example.row_id, "no supervised token"))

    def counts(self) -> RenderCounts:
        return RenderCounts(
            rows=len(self.examples),
            tokens=sum(len(example.tokens) for example in self.examples),
            supervised_tokens=sum(example.supervised_tokens for example in self.examples),
            rows_truncated=self.rows_truncated,
            rows_too_long=self.rows_too_long,
            rows_without_supervised_tokens=self.rows_unsupervised,
            lost_tokens=self.lost_tokens,
            lost_supervised_tokens=self.lost_supervised_tokens,
            rows_without_end_of_turn=sum(not example.has_end for example in self.examples),
            rows_with_control_text=self.rows_with_control_text,
        )


def _render_side(
    samples: Sequence[Sample], encoder: TextEncoder, part: DataPart, task: TaskName
) -> _Side:
    side = _Side()
    for sample, rendered in zip(samples, render_all(samples, encoder, part, task), strict=True):
        side.rows_with_control_text += int(has_control_text(sample, encoder))
        if isinstance(rendered, RowFault):
            side.faults.append(rendered)
        else:
            for example in rendered:
                side.add(sample, example, part)
    return side


def _too_long(example: Example, part: DataPart) -> RowFault:
    return RowFault(
        file=example.file,
        line=example.line,
        row_id=example.row_id,
        found=f"the row has {len(example.tokens)} tokens",
        expected=f"at most data.max_length = {part.max_length}",
        fix="raise data.max_length, or set data.overflow to truncate or drop",
        reason="too long",
    )


def _nothing_to_train(
    samples: Sequence[Sample], dropped: Iterable[DroppedRow], encoder: TextEncoder, part: DataPart
) -> Fault:
    reasons = sorted({row.reason for row in dropped})
    return Fault(
        found=(
            f"0 trainable tokens in {len(samples)} rows, rendered with {encoder.name} "
            f"({'; '.join(reasons[:3]) or 'no rows on the training side'})"
        ),
        where=part.train,
        fix="give replies a weight of 1, raise data.max_length, or add rows",
    )
