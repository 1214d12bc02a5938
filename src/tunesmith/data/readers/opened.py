"""From a file on disk to blocks of UTF-8 bytes: unpacked, without a byte-order mark.

Lines end in LF. CRLF stays for the readers to trim. A file whose first block holds carriage
returns but no LF has the line ends of old Macs: each of them becomes LF.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from tunesmith.data.row import RowFault

BLOCK_BYTES = 1 << 20
UTF8_MARK = b"\xef\xbb\xbf"
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class UnreadableError(Exception):
    """The file cannot be read, or not any further."""

    def __init__(self, fault: RowFault) -> None:
        super().__init__(fault.found)
        self.fault = fault


@dataclass(slots=True)
class Opened:
    """The content of a file. `offset` is where its first byte of text stands, unpacked."""

    offset: int
    blocks: Iterator[bytes] = field(repr=False)


@contextmanager
def open_text(path: Path, shown: str) -> Generator[Opened]:
    """Open a file as blocks of UTF-8; what is damaged raises UnreadableError, here or later."""
    with open_bytes(path, shown) as file:
        start = read_block(file, path, shown)
        yield _to_utf8(start, _blocks(file, path, shown), shown)


@contextmanager
def open_bytes(path: Path, shown: str) -> Generator[IO[bytes]]:
    """Open a file, unpacked where its first bytes say that it is packed."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableError(_forbidden(shown, error)) from error
    with file:
        try:
            packed = packing_of(file.read(4))
            file.seek(0)
        except OSError as error:  # a disk that fails, a share that has gone
            raise UnreadableError(_forbidden(shown, error)) from error
        with _unpacked(file, packed) as content:
            yield content


def packing_of(start: bytes) -> str | None:
    """Return the name of the packing that a file's first bytes tell of."""
    return next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)


def read_block(file: IO[bytes], path: Path, shown: str, size: int = BLOCK_BYTES) -> bytes:
    """Read a block, whole but for the last one; a damaged archive raises UnreadableError."""
    parts: list[bytes] = []
    missing = size
    try:
        while missing > 0 and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UnreadableError(_unreadable(path, shown, error)) from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut blocks after the last line end in each; a longer line comes out in one piece."""
    pending: list[bytes] = []
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if not cut:
            pending.append(block)
            continue
        pending.append(block[:cut])
        yield b"".join(pending)
        pending = [block[cut:]] if cut < len(block) else []
    if pending:
        yield b"".join(pending)


@contextmanager
def _unpacked(file: IO[bytes], packed: str | None) -> Generator[IO[bytes]]:
    if packed == "gzip":
        with gzip.GzipFile(fileobj=file) as content:
            yield cast("IO[bytes]", content)
    elif packed == "zstd":
        from pyarrow import CompressedInputStream, PythonFile

        stream: Any = CompressedInputStream(PythonFile(file, mode="r"), "zstd")
        with stream:
            yield stream
    else:
        yield file


def _blocks(file: IO[bytes], path: Path, shown: str) -> Iterator[bytes]:
    while block := read_block(file, path, shown):
        yield block


def _to_utf8(start: bytes, rest: Iterator[bytes], shown: str) -> Opened:
    encoding = _UTF16.get(start[:2])
    if encoding is not None and start[:4] != b"\xff\xfe\x00\x00":
        return Opened(0, _mend_ends(_recode(start[2:], rest, encoding, shown)))
    offset = len(UTF8_MARK) if start.startswith(UTF8_MARK) else 0
    return Opened(offset, _mend_ends(_joined(start[offset:], rest)))


def _joined(start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if start:
        yield start
    yield from rest


def _recode(start: bytes, rest: Iterator[bytes], encoding: str, shown: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset = 2
    for block in _joined(start, rest):
        yield _decode(decoder, block, offset, encoding, shown, is_last=False)
        offset += len(block)
    yield _decode(decoder, b"", offset, encoding, shown, is_last=True)


def _decode(
    decoder: codecs.IncrementalDecoder,
    block: bytes,
    offset: int,
    encoding: str,
    shown: str,
    *,
    is_last: bool,
) -> bytes:
    kept = len(cast("tuple[bytes, Any]", decoder.getstate())[0])
    try:
        return decoder.decode(block, is_last).encode()
    except UnicodeDecodeError as error:
        at = offset - kept + error.start
        raise UnreadableError(
            RowFault(
                file=shown,
                found=f"the bytes at byte offset {at} are no {encoding.upper()} text "
                f"({error.reason})",
                expected="the encoding that the byte-order mark tells of",
                fix="save the file as UTF-8",
                reason="unreadable encoding",
            )
        ) from error


def _mend_ends(blocks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(blocks, b"")
    if b"\n" in first or b"\r" not in first[:-1]:
        if first:
            yield first
        yield from blocks
        return
    yield first.replace(b"\r", b"\n")
    for block in blocks:
        yield block.replace(b"\r", b"\n")


def _unreadable(path: Path, shown: str, error: Exception) -> RowFault:
    with path.open("rb") as raw:
        packed = packing_of(raw.read(4))
    if packed is None:
        return _forbidden(shown, error)
    return RowFault(
        file=shown,
        found=f"the {packed} archive is damaged or was cut off ({error})",
        expected="a whole archive",
        fix="copy or download it again, or unpack it to see how far it goes",
        reason="damaged archive",
    )


def _forbidden(shown: str, error: Exception) -> RowFault:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    is_forbidden = isinstance(error, PermissionError)
    return RowFault(
        file=shown,
        found=f"the file cannot be read ({why})",
        expected="a readable file",
        fix="allow this user to read it" if is_forbidden else "check its disk, or copy it again",
        reason="unreadable file",
    )
