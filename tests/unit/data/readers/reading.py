"""Writes a file and reads its rows, as the tests of the readers need it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.data.rows import FileOptions, Row, RowFault, read_rows


def write(folder: Path, content: bytes | str, name: str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, **options: Any) -> tuple[list[Row], list[RowFault]]:
    found = list(read_rows(path, options=FileOptions(**options)))
    rows = [one for one in found if isinstance(one, Row)]
    return rows, [one for one in found if isinstance(one, RowFault)]


def values_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    rows, faults = read(path, **options)
    assert not faults
    return [row.values for row in rows]


def fault_of(path: Path, **options: Any) -> RowFault:
    _, faults = read(path, **options)
    (fault,) = faults
    return fault
