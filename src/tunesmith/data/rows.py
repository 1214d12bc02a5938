"""From a file to rows, each with the line it began on. Only blank lines are skipped.

Two shapes are read, told apart by the first character: one JSON object a line, or one JSON array of
objects. UTF-8, with or without a byte-order mark, with any line ends. What cannot be a row comes
out in its place as a RowFault, so that every fault of a file is found in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith.core.errors import Fault
from tunesmith.data.json_text import JsonText, NotJsonError, Oddity, type_name

# What a file of another kind begins with, or is called.
_MAGIC = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PK\x03\x04": "a zip file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
}
_OTHER_KINDS = {
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".conll",
    ".abc",
    ".gz",
    ".zst",
    ".xlsx",
    ".arrow",
}
_DATA_SUFFIXES = (".jsonl", ".json", ".ndjson")


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `number` counts rows from 1; `in_array` where several rows may share a line."""

    file: str
    line: int
    values: dict[str, Any] = field(hash=False)
    number: int = 0
    in_array: bool = False

    @property
    def row_id(self) -> str:
        """The row's short name: `train.jsonl:12`, or `train.json:12#3` for an array's third."""
        return _row_id(self.file, self.line, self.number if self.in_array else None)


@dataclass(frozen=True, slots=True)
class RowFault:
    """What is wrong with one row, or with the whole file where `line` is 0.

    It reads as a sentence: `{found}, expected {expected}`. `reason` is the short name under which
    the faults of a file are counted. `raw` is the row's text where it is no row yet, `corrected`
    what the row would be without the fault, where that is certain.
    """

    file: str
    line: int = 0
    field: str = ""
    found: str = ""
    expected: str = ""
    fix: str = ""
    reason: str = ""
    row_id: str = ""
    row: int | None = None
    raw: str = ""
    corrected: str = ""

    @property
    def where(self) -> str:
        """The place: file and line, the row of an array, the field."""
        parts = [f"{self.file}:{self.line}" if self.line else self.file]
        parts += [f"row {self.row}"] if self.row else []
        parts += [f"field {self.field}"] if self.field else []
        return ", ".join(parts)

    def saying(
        self, *, found: str, expected: str, fix: str, reason: str, field: str | None = None
    ) -> RowFault:
        """Return the same place with something else to say about it."""
        at = self.field if field is None else field
        return replace(self, found=found, expected=expected, fix=fix, reason=reason, field=at)

    def to_fault(self) -> Fault:
        """Return the fault in the three parts that every error of Tunesmith has."""
        return Fault(
            found=f"{self.found}, expected {self.expected}" if self.expected else self.found,
            where=self.where,
            fix=self.fix or f"write {self.expected}",
        )


def place_of(row: Row) -> RowFault:
    """Return an empty fault at a row, to be filled by `saying`."""
    return RowFault(
        file=row.file,
        line=row.line,
        row_id=row.row_id,
        row=row.number if row.in_array else None,
    )


def read_rows(path: Path | str, limit: int | None = None) -> Iterator[Row | RowFault]:
    """Yield the rows of a file and the faults in their places, at most `limit` of them."""
    return islice(_read(Path(path)), limit)


def _read(path: Path) -> Iterator[Row | RowFault]:
    unreadable = _find_unreadable(path)
    if unreadable is not None:
        yield unreadable
        return
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    shape = _read_array if start.startswith(b"[") else _read_lines
    is_empty = True
    for row in shape(path):
        is_empty = False
        yield row
    if is_empty:
        yield RowFault(
            file=str(path),
            found="the array is empty" if shape is _read_array else "the file is empty",
            expected="at least one row",
            fix="write one JSON object a line",
            reason="empty file",
        )


def _find_unreadable(path: Path) -> RowFault | None:
    """Return why the file cannot be opened as text at all, or None."""
    place = RowFault(file=str(path))
    if path.is_dir():
        return place.saying(
            found="the path is a directory",
            expected="a file of rows",
            fix=f"name one of its files{_list(_data_files(path))}",
            reason="directory",
        )
    if not path.exists():
        return place.saying(
            found="the file does not exist",
            expected="a file of rows",
            fix=_suggest(path),
            reason="missing file",
        )
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        return place.saying(
            found=f"the file cannot be read ({error.strerror})",
            expected="a readable file",
            fix="allow this user to read it",
            reason="unreadable file",
        )
    return _find_other_kind(path, start, place)


def _find_other_kind(path: Path, start: bytes, place: RowFault) -> RowFault | None:
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    is_json = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    if kind is None and not is_json and path.suffix.lower() in _OTHER_KINDS:
        kind = f"a {path.suffix.lower()} file"
    if kind is None:
        return None
    utf16 = kind == "UTF-16 text"
    return place.saying(
        found=f"the file is {kind} (byte offset 0)" if utf16 else f"the file is {kind}",
        expected="JSON text in UTF-8",
        fix="save it as UTF-8" if utf16 else "convert it to JSONL: one JSON object a line",
        reason="unreadable encoding" if utf16 else "another kind of file",
    )


def _read_lines(path: Path) -> Iterator[Row | RowFault]:
    json_text = JsonText()
    number = offset = 0
    with path.open("rb") as file:
        for line, raw in enumerate(file, start=1):
            text_bytes = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
            offset += len(raw)
            if not text_bytes.strip():
                continue
            number += 1
            place = RowFault(file=str(path), line=line, row_id=_row_id(str(path), line, None))
            try:
                text = text_bytes.decode("utf-8").strip(" \t\r\n")
            except UnicodeDecodeError as error:
                yield _undecodable(place, error, offset - len(text_bytes))
                continue
            if line == 1 and text == "{":
                yield _over_several_lines(place)
                return
            yield _to_row(json_text, text, 0, place, number)[0]


def _read_array(path: Path) -> Iterator[Row | RowFault]:
    """Read an array's elements one after the other, counting lines from one to the next."""
    content = path.read_bytes()
    place = RowFault(file=str(path))
    mark = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    try:
        text = content[mark:].decode("utf-8")
    except UnicodeDecodeError as error:
        yield _undecodable(place, error, mark)
        return
    json_text = JsonText()
    number, line, counted = 0, 1, 0
    position = json_text.skip_space(text, 0)
    while True:
        step = json_text.next_element(text, position, is_first=number == 0)
        if isinstance(step, NotJsonError):
            yield _not_json(replace(place, line=step.line), step)
            return
        if step is None:
            return
        number += 1
        line += text.count("\n", counted, step)
        counted = step
        at = replace(place, line=line, row=number, row_id=_row_id(str(path), line, number))
        row, end = _to_row(json_text, text, step, at, number)
        yield row
        if end is None:
            return
        position = end


def _to_row(
    json_text: JsonText, text: str, position: int, place: RowFault, number: int
) -> tuple[Row | RowFault, int | None]:
    """Decode the value at a position; the second part is where it ends, None if unknown."""
    in_array = place.row is not None
    value, end, oddities = None, None, ()
    try:
        value, end, oddities = json_text.decode(text, position, alone=not in_array)
    except NotJsonError as error:
        return _not_json(replace(place, line=error.line if in_array else place.line), error), None
    if oddities:
        return _odd(place, oddities[0]), end
    if not isinstance(value, dict):
        return _not_an_object(place, value), end
    return Row(place.file, place.line, value, number, in_array), end


def _not_json(place: RowFault, error: NotJsonError) -> RowFault:
    return place.saying(
        found=f"line {place.line} is not JSON: {error.cause} at column {error.column}",
        expected="one JSON object",
        fix=error.fix,
        reason="not JSON",
    )


def _odd(place: RowFault, oddity: Oddity) -> RowFault:
    return place.saying(
        field=oddity.field, found=oddity.found, expected=oddity.expected, fix=oddity.fix,
        reason=oddity.reason,
    )  # fmt: skip


def _not_an_object(place: RowFault, value: object) -> RowFault:
    subject = f"row {place.row}" if place.row is not None else f"line {place.line}"
    encoded_twice = isinstance(value, str) and value.lstrip().startswith("{")
    return place.saying(
        found=f"{subject} is {type_name(value, article=True)}",
        expected="an object",
        fix=(
            "it is JSON that was encoded twice: decode it once"
            if encoded_twice
            else 'write a row as an object, such as {"messages": [...]}'
        ),
        reason="not an object",
    )


def _over_several_lines(place: RowFault) -> RowFault:
    return place.saying(
        found="line 1 opens an object that goes on over several lines",
        expected="one whole object a line, or one JSON array of objects",
        fix="write each row on one line, or put the rows between [ and ]",
        reason="not JSON",
    )


def _undecodable(place: RowFault, error: UnicodeDecodeError, offset: int) -> RowFault:
    byte = error.object[error.start]
    return place.saying(
        found=f"byte 0x{byte:02x} at byte offset {offset + error.start} is not UTF-8",
        expected="UTF-8 text",
        fix="save the file as UTF-8 (it may be Windows-1252 or Latin-1 now)",
        reason="unreadable encoding",
    )


def _row_id(file: str, line: int, number: int | None) -> str:
    name = f"{Path(file).name}:{line}"
    return name if number is None else f"{name}#{number}"


def _suggest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either: check the path"
    names = [entry.name for entry in folder.iterdir()]
    near = get_close_matches(path.name, names, n=1)
    if near:
        return f"did you mean {folder / near[0]}?"
    return f"check the path{_list(_data_files(folder))}"


def _data_files(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix in _DATA_SUFFIXES)


def _list(names: list[str]) -> str:
    if not names:
        return "; it holds no .jsonl or .json file"
    return "; it holds " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
