"""Parquet: batches of rows, sent as Arrow bytes and made into Python values where they are used.

Parquet gives every object of a column the same fields, and null where a row has none. Inside a
column those nulls are taken out again, so that a tool does not get another tool's fields.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from tunesmith.data.data_file import DataFile
from tunesmith.data.readers.opened import BLOCK_BYTES, UnreadableError, open_bytes, read_block
from tunesmith.data.row import Row, RowFault, Skipped

_ROWS_IN_BATCH = 256


@dataclass(frozen=True, slots=True)
class ParquetChunk:
    """A batch of rows as an Arrow stream; `number` is that of the row before the first."""

    file: str
    data: bytes
    number: int
    num_rows: int

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Nothing."""
        return ()

    def rows(self) -> Iterator[Row | RowFault]:
        """Make Python values of the batch."""
        from pyarrow import ipc

        with ipc.open_stream(self.data) as stream:
            batch = stream.read_all().slice(0, self.num_rows)
        for number, values in enumerate(batch.to_pylist(), start=self.number + 1):
            named = {name: _without_nulls(value) for name, value in values.items()}
            yield Row(self.file, 0, named, number, in_array=True)


def read_parquet_chunks(file: DataFile, limit: int | None) -> Iterator[ParquetChunk]:
    """Yield the file's rows batch by batch, at most `limit` rows; it is never held whole."""
    import pyarrow
    from pyarrow import parquet

    number = 0
    with _open_seekable(file) as content:
        try:
            # A buffer keeps pyarrow from reading whole column chunks at once.
            table = parquet.ParquetFile(content, buffer_size=BLOCK_BYTES, pre_buffer=False)
            for batch in table.iter_batches(batch_size=_ROWS_IN_BATCH):
                rows = batch.num_rows if limit is None else min(batch.num_rows, limit - number)
                if rows:
                    yield ParquetChunk(file.shown, _to_bytes(batch), number, rows)
                number += rows
                if number == limit:
                    return
        except (pyarrow.ArrowException, OSError) as error:
            raise UnreadableError(_damaged(file, error)) from error


@contextmanager
def _open_seekable(file: DataFile) -> Generator[IO[bytes]]:
    """Open the file; a packed one is unpacked to disk, because Parquet is read from its end."""
    with open_bytes(file.path, file.shown) as content:
        if isinstance(content, io.BufferedReader):
            yield content
            return
        with tempfile.TemporaryFile() as unpacked:
            while block := read_block(content, file.path, file.shown):
                unpacked.write(block)
            unpacked.seek(0)
            yield unpacked


def _to_bytes(batch: Any) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _without_nulls(value: object) -> object:
    """Take out fields that are null, at any depth inside a column."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {key: _without_nulls(field) for key, field in fields.items() if field is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in cast("list[object]", value)]
    return value


def _damaged(file: DataFile, error: Exception) -> RowFault:
    first_line = (str(error).strip().splitlines() or ["no reason given"])[0]
    return RowFault(
        file=file.shown,
        found=f"the Parquet file is damaged or was cut off ({first_line})",
        expected="a whole Parquet file",
        fix="write or download it again",
        reason="damaged file",
    )
