"""The lines of a text file, decoded; one that is no UTF-8, or holds a NUL, comes with its fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tunesmith.data.readers.opened import open_text, whole_lines
from tunesmith.data.row import RowFault, place_at


class Line(NamedTuple):
    """A line without its end, counted from 1; bytes that are no UTF-8 are lone surrogates in it."""

    number: int
    text: str
    fault: RowFault | None


def read_lines(path: Path, shown: str) -> Iterator[Line]:
    """Yield every line, blank ones too; raises UnreadableError where the file is damaged."""
    number = 0
    with open_text(path, shown) as opened:
        offset = opened.offset
        for block in whole_lines(opened.blocks):
            texts = _decode(block)
            if texts is None:
                yield from _read_bad_block(block, number, offset, shown)
            else:
                for at, text in enumerate(texts, start=number + 1):
                    yield Line(at, text.removesuffix("\r"), None)
            number += block.count(b"\n") + (not block.endswith(b"\n"))
            offset += len(block)


def explain_bad_bytes(place: RowFault, error: UnicodeDecodeError, offset: int) -> RowFault:
    """Say which byte is no UTF-8 and what the encoding may be; `offset` is the object's own."""
    byte = error.object[error.start]
    return place.saying(
        found=f"byte 0x{byte:02x} at byte offset {offset + error.start} is not UTF-8",
        expected="UTF-8 text",
        fix=f"save the file as UTF-8 (it may be {_guess_encoding(error.object)} now)",
        reason="unreadable encoding",
    )


def _decode(block: bytes) -> list[str] | None:
    """Return the lines of a block, or None where one of them is at fault."""
    if b"\0" in block:
        return None
    try:
        return block.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return None


def _read_bad_block(block: bytes, number: int, offset: int, shown: str) -> Iterator[Line]:
    for raw in block.removesuffix(b"\n").split(b"\n"):
        number += 1
        place = place_at(shown, number)
        fault = _nul(place) if b"\0" in raw else None
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            text = raw.decode(errors="surrogateescape")
            fault = explain_bad_bytes(place, error, offset)
        offset += len(raw) + 1
        yield Line(number, text.removesuffix("\r"), fault)


def _nul(place: RowFault) -> RowFault:
    return place.saying(
        found=f"line {place.line} holds a NUL byte",
        expected="text",
        fix="remove it: the file may be damaged, or UTF-16 without a byte-order mark",
        reason="NUL byte",
    )


def _guess_encoding(raw: bytes) -> str:
    """Tell Japanese from Western text by its kana; what else it may be is not guessed."""
    try:
        text = raw.decode("shift_jis")
    except UnicodeDecodeError:
        return "Windows-1252 or Latin-1"
    kana = sum("\u3040" <= char <= "\u30ff" for char in text)
    return "Shift-JIS" if kana > 1 else "Windows-1252 or Latin-1"
