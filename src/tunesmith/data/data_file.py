"""One file of rows as the reader needs to know it, and the choices that concern reading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.recipe.data import DataPart

FileKind = Literal["jsonl", "json", "csv", "parquet", "conll", "text", "abc", "parallel"]
Documents = Literal["auto", "line", "block", "file"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file, or files side by side whose line n together makes one row.

    `shown` is what errors and row names call it. `columns` and `beside` are of files side by side:
    the name of each one's column, and the files after the first.
    """

    path: Path
    shown: str
    kind: FileKind
    columns: tuple[str, ...] = ()
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What a recipe says about reading: `data.documents` and `data.rows_at`."""

    documents: Documents = "auto"
    rows_at: str | None = None

    @staticmethod
    def of(part: DataPart) -> FileOptions:
        """Return the options in a recipe's data part."""
        return FileOptions(documents=part.documents, rows_at=part.rows_at)
