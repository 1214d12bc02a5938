"""From files to rows, each with its place. Only blank lines are skipped without a word.

    read_chunks    in the reading process: pieces of a file that can be sent to workers
    chunk.rows()   in a worker: Row after Row, and a RowFault in the place of what is none
    read_rows      both in one, for commands and tests

Every fault of a file comes out in one pass, and memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never, cast

from tunesmith.data.data_file import DataFile as DataFile
from tunesmith.data.data_file import FileOptions as FileOptions
from tunesmith.data.readers.conll import read_sentences
from tunesmith.data.readers.csv_table import read_table
from tunesmith.data.readers.json_document import read_document
from tunesmith.data.readers.json_lines import read_line_chunks
from tunesmith.data.readers.opened import BLOCK_BYTES, UnreadableError
from tunesmith.data.readers.parallel import read_side_by_side
from tunesmith.data.readers.parquet_table import read_parquet_chunks
from tunesmith.data.readers.text import read_documents
from tunesmith.data.row import Chunk as Chunk
from tunesmith.data.row import Row as Row
from tunesmith.data.row import RowFault as RowFault
from tunesmith.data.row import Skipped as Skipped
from tunesmith.data.row import place_at as place_at
from tunesmith.data.row import place_of as place_of
from tunesmith.data.source import look_for

_ROWS_IN_CHUNK = 256


@dataclass(frozen=True, slots=True)
class RowsChunk:
    """Rows that were decoded while they were read."""

    items: tuple[Row | RowFault, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def num_rows(self) -> int:
        """How many rows and faults there are."""
        return len(self.items)

    def rows(self) -> Iterator[Row | RowFault]:
        """Yield them."""
        return iter(self.items)


def read_chunks(
    files: Sequence[DataFile], options: FileOptions | None = None, limit: int | None = None
) -> Iterator[Chunk]:
    """Yield the files' rows in chunks, at most `limit` rows of them all."""
    remaining = limit
    for file in files:
        is_empty = True
        for chunk in _read_file(file, options or FileOptions(), remaining):
            is_empty = is_empty and not chunk.num_rows
            yield chunk
            if remaining is not None:
                remaining -= chunk.num_rows
        if is_empty:
            yield RowsChunk((_empty(file),))
        if remaining is not None and remaining <= 0:
            return


def read_rows(
    source: Path | str | Sequence[DataFile],
    limit: int | None = None,
    options: FileOptions | None = None,
) -> Iterator[Row | RowFault]:
    """Yield the rows of a file or of all that a text names, and the faults in their places."""
    found = look_for(source) if isinstance(source, str | Path) else source
    for one in found:
        if isinstance(one, RowFault):
            yield one
    files = [one for one in found if isinstance(one, DataFile)]
    for chunk in read_chunks(files, options, limit):
        yield from chunk.rows()


def _read_file(file: DataFile, options: FileOptions, limit: int | None) -> Iterator[Chunk]:
    """Yield chunks up to where the file cannot be read any further; that fault comes last."""
    try:
        match file.kind:
            case "jsonl":
                yield from read_line_chunks(file, limit)
            case "parquet":
                yield from read_parquet_chunks(file, limit)
            case "json":
                yield from _in_chunks(read_document(file, options), limit)
            case "csv":
                yield from _in_chunks(read_table(file), limit)
            case "conll":
                yield from _in_chunks(read_sentences(file), limit)
            case "text" | "abc":
                yield from _in_chunks(read_documents(file, options), limit)
            case "parallel":
                yield from _in_chunks(read_side_by_side(file), limit)
            case _:
                assert_never(file.kind)
    except UnreadableError as error:
        yield RowsChunk((error.fault,))


def _in_chunks(items: Iterable[Row | RowFault | Skipped], limit: int | None) -> Iterator[RowsChunk]:
    """Gather rows until they are many or large; Skipped goes with the rows before it."""
    rows: list[Row | RowFault] = []
    skipped: list[Skipped] = []
    taken = size = 0
    for item in _until_unreadable(items):
        if isinstance(item, Skipped):
            skipped.append(item)
            continue
        rows.append(item)
        taken += 1
        size += _size(item.values) if isinstance(item, Row) else 0
        if taken == limit:
            break
        if len(rows) == _ROWS_IN_CHUNK or size > BLOCK_BYTES:
            yield RowsChunk(tuple(rows), tuple(skipped))
            rows, skipped, size = [], [], 0
    if rows or skipped:
        yield RowsChunk(tuple(rows), tuple(skipped))


def _until_unreadable(
    items: Iterable[Row | RowFault | Skipped],
) -> Iterator[Row | RowFault | Skipped]:
    try:
        yield from items
    except UnreadableError as error:
        yield error.fault


def _size(value: object) -> int:
    """Return about how many characters a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, cast("dict[str, object]", value).values()))
    if isinstance(value, list):
        listed = cast("list[object]", value)
        return len(listed) + sum(map(_size, listed))
    return 1


def _empty(file: DataFile) -> RowFault:
    return RowFault(
        file=file.shown,
        found="the file is empty",
        expected="at least one row",
        fix="write one JSON object a line" if file.kind == "jsonl" else "write a row into it",
        reason="empty file",
    )
