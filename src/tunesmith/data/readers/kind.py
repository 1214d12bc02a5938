"""Which reader a file needs, by its name and its first bytes.

JSON is recognised under any name, an archive by what it holds. What no reader is for (a PDF, an
Excel file) is a fault that says what it is.
"""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.data.data_file import FileKind
from tunesmith.data.readers.conll import looks_like_conll
from tunesmith.data.readers.csv_dialect import looks_like_table
from tunesmith.data.readers.opened import UTF8_MARK, UnreadableError, open_bytes, read_block
from tunesmith.data.readers.suffix import KIND_OF_SUFFIX, suffix_of
from tunesmith.data.row import RowFault

_HEAD_BYTES = 1 << 18
_TO_JSONL = "convert it to JSONL: one JSON object a line"
_MAGIC = {
    b"PK\x03\x04": ("a zip file or an Excel file", "unpack it, or save the table as CSV"),
    b"%PDF": ("a PDF file", _TO_JSONL),
    b"ARROW1": ("an Arrow file", "write it as Parquet: datasets' `to_parquet` does"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "write it as Parquet: datasets' `to_parquet` does"),
    b"BZh": ("a bzip2 file", "unpack it, or pack it with gzip or zstd"),
    b"\xfd7zXZ": ("an xz file", "unpack it, or pack it with gzip or zstd"),
    b"\x89PNG": ("a picture", _TO_JSONL),
    b"\xff\xd8\xff": ("a picture", _TO_JSONL),
    b"SQLite format 3": ("a database", _TO_JSONL),
    b"\x80\x04": ("a pickle file", _TO_JSONL),
    b"\x93NUMPY": ("a NumPy array", _TO_JSONL),
}


def find_kind(path: Path, shown: str) -> FileKind | RowFault:
    """Return the kind of a file that exists, or what it is if no reader is for it."""
    named = KIND_OF_SUFFIX.get(suffix_of(path))
    try:
        with open_bytes(path, shown) as file:
            head = read_block(file, path, shown, _HEAD_BYTES)
    except UnreadableError as error:
        return error.fault
    if head.startswith(b"PAR1"):
        return "parquet"
    return _find_other(head, shown) or _find_in_text(_decode(head), named, len(head) < _HEAD_BYTES)


def _find_other(head: bytes, shown: str) -> RowFault | None:
    place = RowFault(file=shown, expected="rows", reason="another kind of file")
    for magic, (what, fix) in _MAGIC.items():
        if head.startswith(magic):
            return place.saying(
                found=f"the file is {what}", expected="a file of rows", fix=fix, reason=place.reason
            )
    if head[257:262] == b"ustar":
        return place.saying(
            found="the file is a tar archive", expected="a file of rows",
            fix="unpack it, and name the folder", reason=place.reason,
        )  # fmt: skip
    wide = _find_wide_text(head)
    if wide is None:
        return None
    return place.saying(
        found=f"the file is {wide} (byte offset 0)",
        expected="text in UTF-8, or in UTF-16 with a byte-order mark",
        fix="save it as UTF-8",
        reason="unreadable encoding",
    )


def _find_wide_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "UTF-32 text"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    sample = head[:1024]
    half = len(sample) // 2
    for start in (0, 1):
        # Text in Latin letters has a zero as every second byte.
        if (
            half > 3
            and sample[start::2].count(0) > 0.8 * half
            and sample[1 - start :: 2].count(0) == 0
        ):
            return "UTF-16 text without a byte-order mark"
    return None


def _decode(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", errors="ignore")
    return head.removeprefix(UTF8_MARK).decode(errors="replace")


def _find_in_text(text: str, named: FileKind | None, is_whole: bool) -> FileKind:
    lines = text.splitlines()
    if not is_whole:
        lines = lines[:-1] or lines
    if named in ("jsonl", "json"):
        return _find_json(text, named, is_whole)
    if named == "parquet":
        return "parquet"
    if _is_json(text, is_strict=named is not None):
        return _find_json(text, None, is_whole)
    if named in (None, "text", "csv") and looks_like_conll(lines[:200]):
        return "conll"
    if named is not None:
        return named
    return "csv" if looks_like_table(lines[:40]) else "text"


def _is_json(text: str, *, is_strict: bool) -> bool:
    """Whether text under another name is JSON; verses may begin with a bracket."""
    start = text.lstrip()
    if start.startswith("["):
        return start[1:].lstrip().startswith("{")
    if not start.startswith("{"):
        return False
    return _is_object(start.split("\n", 1)[0]) or (
        not is_strict and start[1:].lstrip().startswith('"')
    )


def _find_json(text: str, named: FileKind | None, is_whole: bool) -> FileKind:
    """Tell rows one a line from one value over the whole file."""
    start = text.lstrip()
    if start.startswith("["):
        return "json"
    if not start.startswith("{"):
        return "jsonl"
    first, _, rest = start.partition("\n")
    if not rest and not is_whole:
        return "jsonl" if named == "jsonl" else "json"  # a line longer than the head
    second = rest.lstrip()
    if _is_object(first):
        return "jsonl" if second or named == "jsonl" else "json"
    if named == "jsonl":
        opens_list = first.rstrip().endswith("[")
        is_next_row = second.startswith("{") and not opens_list
        return "json" if second and _goes_on(first) and not is_next_row else "jsonl"
    return "jsonl" if second.startswith("{") and first.rstrip().endswith("}") else "json"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _goes_on(line: str) -> bool:
    """Whether a line is the beginning of a longer value."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        return False
    return False
