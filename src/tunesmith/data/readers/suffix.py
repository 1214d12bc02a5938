"""What the end of a file's name says of its content."""

from __future__ import annotations

from pathlib import Path

from tunesmith.data.data_file import FileKind

KIND_OF_SUFFIX: dict[str, FileKind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".txt": "text",
    ".md": "text",
    ".abc": "abc",
}
_PACKED_SUFFIXES = {".gz", ".gzip", ".zst", ".zstd"}


def suffix_of(path: Path) -> str:
    """Return the suffix that names the kind, in small letters, without that of the packing."""
    inner = path.with_suffix("") if path.suffix.lower() in _PACKED_SUFFIXES else path
    return inner.suffix.lower()
