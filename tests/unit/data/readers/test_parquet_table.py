from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from tests.unit.data.readers.reading import fault_of, read, values_of, write
from tunesmith.data.rows import read_chunks
from tunesmith.data.source import find_files


def clock(**properties: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {k: {"type": v} for k, v in properties.items()}}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "a"}], "tools": [clock(zone="string")], "n": 1},
    {"messages": [{"role": "user", "content": "b"}], "tools": [clock(a="number", b="number")],
     "n": None},
]  # fmt: skip


def store(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    parquet.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_a_row_has_its_own_fields_and_not_those_of_other_rows(tmp_path: Path) -> None:
    assert values_of(store(tmp_path / "d.parquet", ROWS)) == ROWS


def test_rows_are_named_by_their_number(tmp_path: Path) -> None:
    rows, _ = read(store(tmp_path / "d.parquet", ROWS))
    assert [(row.line, row.number, row.row_id) for row in rows] == [
        (0, 1, "d.parquet#1"), (0, 2, "d.parquet#2"),
    ]  # fmt: skip


def test_batches_of_any_row_groups_keep_the_order(tmp_path: Path) -> None:
    rows = [{"text": f"row {number}"} for number in range(1000)]
    path = store(tmp_path / "d.parquet", rows, row_group_size=300)
    chunks = [pickle.loads(pickle.dumps(one)) for one in read_chunks(find_files(str(path)))]
    assert len(chunks) > 3
    assert [row.values for chunk in chunks for row in chunk.rows()] == rows
    few = list(read_chunks(find_files(str(path)), limit=301))
    assert [row.number for chunk in few for row in chunk.rows()] == list(range(1, 302))
    assert sum(chunk.num_rows for chunk in few) == 301


def test_a_packed_file_and_one_of_another_name_are_read(tmp_path: Path) -> None:
    raw = store(tmp_path / "d.parquet", ROWS).read_bytes()
    assert values_of(write(tmp_path, gzip.compress(raw), "d.parquet.gz")) == ROWS
    assert values_of(write(tmp_path, raw, "d.data")) == ROWS


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    raw = store(tmp_path / "d.parquet", ROWS).read_bytes()
    for damaged in (raw[:-20], raw[:10], b"no parquet"):
        fault = fault_of(write(tmp_path, damaged, "d.parquet"))
        assert "Parquet file is damaged" in fault.found
        assert not fault.is_of_row


def test_a_file_without_rows_is_empty(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array([], pa.string())})
    parquet.write_table(table, tmp_path / "d.parquet")
    assert fault_of(tmp_path / "d.parquet").reason == "empty file"
