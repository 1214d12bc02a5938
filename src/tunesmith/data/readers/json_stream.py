"""JSON values one after the other from blocks of bytes, through a buffer that slides over them.

    {"data": [ {...}, {...}, {.|            the buffer ends inside a value: more is read, and the
               ^position       ^           value is tried again; what was consumed is let go

The buffer is never longer than a few blocks or the longest single value.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, NamedTuple

from tunesmith.data.json_text import JsonText, NotJsonError, Oddity
from tunesmith.data.readers.json_guard import has_every_key
from tunesmith.data.readers.opened import BLOCK_BYTES, Opened

_SPACE = re.compile(r"[ \t\r\n]*")
_BAD_BYTE = re.compile("[\udc80-\udcff]")
# No token but a string is longer than this at the buffer's end; a true error lies further back.
_LONGEST_TOKEN = 64
_KEPT_BEFORE = 256  # an error's likely cause is found from the text before it


class Value(NamedTuple):
    """A value and the line it begins on.

    Where something may be wrong with it: what is odd, its text, and which byte is no UTF-8.
    """

    value: Any
    line: int
    oddities: tuple[Oddity, ...] = ()
    raw: str = ""
    bad_byte: UnicodeDecodeError | None = None
    offset: int = 0

    @property
    def is_good(self) -> bool:
        """Whether it is an object with nothing wrong in it."""
        return type(self.value) is dict and not self.oddities and self.bad_byte is None


class JsonStream:
    """A position in JSON text. Errors (NotJsonError) carry the file's own lines and columns."""

    def __init__(self, opened: Opened) -> None:
        self._blocks = opened.blocks
        self._text = ""
        self._at = 0
        self._byte_offset = opened.offset  # of the buffer's first character
        self._undecoded = b""
        self._has_bad_bytes = False
        self._is_ended = False
        self._line, self._counted = 1, 0
        self._lines_before = 0  # line ends before the buffer
        self._columns_before = 0  # characters between the last of them and the buffer
        self._constants: list[str] = []
        self._fast = json.JSONDecoder(parse_constant=self._note_constant)
        self._exact = JsonText()

    @property
    def line(self) -> int:
        """The line of the current position."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def peek(self) -> str:
        """Pass over white space; return the character that follows, empty at the end."""
        if self._text[self._at : self._at + 1] > " ":
            return self._text[self._at]
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def take(self, char: str) -> bool:
        """Pass over a character where it is the next one."""
        if self.peek() != char:
            return False
        self._at += 1
        return True

    def error(self, cause: str, fix: str, *, back_to: str = "") -> NotJsonError:
        """Return an error at the current position, or at the character before it that is named."""
        at = self._text.rfind(back_to, 0, self._at) if back_to else self._at
        at = self._at if at < 0 else at
        column = at - self._text.rfind("\n", 0, at)
        lines = self._text.count("\n", 0, at)
        return self._placed(NotJsonError(lines + 1, column, cause, fix))

    def value(self) -> Value:
        """Decode the next value; raises NotJsonError."""
        self.peek()
        while True:
            self._constants.clear()
            try:
                value, end = self._fast.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and self._fill():
                    continue
                return self._decode_exactly()
            except (RecursionError, ValueError):
                return self._decode_exactly()
            # A number may go on; of 1e-7 the buffer may hold 1e- alone, which reads as 1.
            is_number = isinstance(value, int | float)
            if is_number and end + 2 >= len(self._text) and self._fill():
                continue
            if self._constants or not has_every_key(self._text[self._at : end], value):
                return self._decode_exactly()
            return self._pass_over(value, end, ())

    def _note_constant(self, name: str) -> float:
        self._constants.append(name)
        return float(name)

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        is_string = error.msg.startswith("Unterminated string")
        return is_string or error.pos >= len(self._text) - _LONGEST_TOKEN

    def _decode_exactly(self) -> Value:
        try:
            value, end, oddities = self._exact.decode(self._text, self._at, alone=False)
        except NotJsonError as error:
            raise self._placed(error) from error
        return self._pass_over(value, end, oddities)

    def _placed(self, error: NotJsonError) -> NotJsonError:
        """Make an error's place in the buffer one in the file."""
        if error.line == 1:
            error.column += self._columns_before
        error.line += self._lines_before
        return error

    def _pass_over(self, value: Any, end: int, oddities: tuple[Oddity, ...]) -> Value:
        line, start = self.line, self._at
        self._at = end
        if not self._has_bad_bytes or not _BAD_BYTE.search(self._text, start, end):
            is_row = isinstance(value, dict) and not oddities
            return Value(value, line, oddities, "" if is_row else self._text[start:end])
        raw = _to_bytes(self._text[start:end])
        offset = self._byte_offset + len(_to_bytes(self._text[:start]))
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return Value(value, line, oddities, "", error, offset)
        raise AssertionError("a bad byte was found")

    def _fill(self) -> bool:
        """Let go of what was consumed and read as much again; False at the end of the text."""
        if self._is_ended:
            return False
        self._let_go()
        parts, missing = [self._text], max(BLOCK_BYTES, len(self._text))
        while missing > 0 and not self._is_ended:
            block = next(self._blocks, None)
            self._is_ended = block is None
            text = self._decode(self._undecoded + (block or b""))
            parts.append(text)
            missing -= len(text)
        self._text = "".join(parts)
        return len(self._text) > len(parts[0])

    def _let_go(self) -> None:
        cut = max(0, self._at - _KEPT_BEFORE)
        if not cut:
            return
        _ = self.line  # counts up to the position
        gone = self._text[:cut]
        last_end = gone.rfind("\n")
        if last_end >= 0:
            self._lines_before += gone.count("\n")
            self._columns_before = 0
        self._columns_before += cut - last_end - 1
        self._byte_offset += len(_to_bytes(gone))
        self._text = self._text[cut:]
        self._at -= cut
        self._counted -= cut

    def _decode(self, raw: bytes) -> str:
        try:
            text, used = codecs.utf_8_decode(raw, "strict", self._is_ended)
        except UnicodeDecodeError:
            self._has_bad_bytes = True
            text, used = codecs.utf_8_decode(raw, "surrogateescape", self._is_ended)
        self._undecoded = raw[used:]
        return text


def _to_bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
