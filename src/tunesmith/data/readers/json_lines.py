"""JSON Lines: the reading process only cuts blocks of whole lines, `rows()` decodes them.

A good line costs one pass of orjson and the proof that it lost nothing (json_guard). Whatever
orjson refuses, or the proof does not cover, goes through the strict decoder, which names what is
wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tunesmith.data.data_file import DataFile
from tunesmith.data.json_text import JsonText, NotJsonError
from tunesmith.data.readers.json_guard import is_exact
from tunesmith.data.readers.json_row import not_json, odd, to_row, with_raw
from tunesmith.data.readers.lines import explain_bad_bytes
from tunesmith.data.readers.opened import open_text, whole_lines
from tunesmith.data.row import Row, RowFault, Skipped, place_at

_BLANK_LINE = re.compile(rb"\n[ \t\r\x0b\x0c]*(?=\n)")


@dataclass(frozen=True, slots=True)
class LinesChunk:
    """Whole lines, not decoded. `line`, `number` and `offset` are of what stands before them."""

    file: str
    data: bytes
    line: int
    number: int
    offset: int
    num_rows: int

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Nothing: only blank lines are passed over."""
        return ()

    def rows(self) -> Iterator[Row | RowFault]:
        """Decode line after line, up to `num_rows` of them."""
        slow = JsonText()
        line, number, offset = self.line, self.number, self.offset
        last = number + self.num_rows
        for raw in self.data.split(b"\n"):
            line += 1
            if raw and not raw.isspace():
                if number == last:
                    return
                number += 1
                try:
                    value: Any = orjson.loads(raw)
                except orjson.JSONDecodeError:
                    yield _read_slowly(slow, raw, place_at(self.file, line), number, offset)
                else:
                    if type(value) is dict and is_exact(raw, value):
                        yield Row(self.file, line, value, number)
                    else:
                        yield _read_slowly(slow, raw, place_at(self.file, line), number, offset)
            offset += len(raw) + 1


def read_line_chunks(file: DataFile, limit: int | None) -> Iterator[LinesChunk]:
    """Yield the file's lines, at most `limit` rows, in blocks of about a megabyte."""
    line = number = 0
    with open_text(file.path, file.shown) as opened:
        offset = opened.offset
        for block in whole_lines(opened.blocks):
            num_lines = block.count(b"\n") + (not block.endswith(b"\n"))
            num_rows = num_lines - _count_blank(block)
            if limit is not None:
                num_rows = min(num_rows, limit - number)
            if num_rows:
                yield LinesChunk(file.shown, block, line, number, offset, num_rows)
            line += num_lines
            number += num_rows
            offset += len(block)
            if number == limit:
                return


def _count_blank(block: bytes) -> int:
    first = block[: block.find(b"\n") + 1] or block
    last = block[block.rfind(b"\n") + 1 :] if block.count(b"\n") else b""
    return first.isspace() + last.isspace() + len(_BLANK_LINE.findall(block))


def _read_slowly(
    slow: JsonText, raw: bytes, place: RowFault, number: int, offset: int
) -> Row | RowFault:
    try:
        text = raw.decode("utf-8").strip(" \t\r\n")
    except UnicodeDecodeError as error:
        return explain_bad_bytes(place, error, offset)
    try:
        value, _, oddities = slow.decode(text, 0, alone=True)
    except NotJsonError as error:
        return with_raw(not_json(place, error), text)
    if oddities:
        return with_raw(odd(place, oddities[0]), text)
    return to_row(value, place, number, text)
