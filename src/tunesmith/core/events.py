"""Events of a run: from things that happen to lines of `events.jsonl`, and back.

One JSON object a line, each with `type`, `time` (ISO 8601, UTC) and `step`. The file is only ever
appended to. A process that is killed may leave half a line: readers skip it, and the next writer
starts on a fresh line.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tunesmith.core.run_dir import disk_error

Event = dict[str, Any]


class EventLog:
    """Appends events to a file; each is written whole and at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise disk_error(path, error) from error
        if _ends_torn(path):
            self._file.write(b"\n")

    def write(self, type: str, step: int | None = None, **fields: object) -> None:
        """Append one event."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = {"type": type, "time": now, "step": step, **fields}
        line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)
        try:
            written = self._file.write(line)
            if written < len(line):  # a nearly full disk takes a part without an error
                self._file.write(line[written:])
        except OSError as error:
            raise disk_error(self.path, error) from error

    def sync(self) -> None:
        """See that what was written outlives the machine: a checkpoint is nothing without it."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise disk_error(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read_events(path: Path) -> list[Event]:
    """All whole events of the file; none when there is no file."""
    if not path.exists():
        return []
    return list(_parse(path.read_bytes().split(b"\n")))


def follow_events(
    path: Path, *, stop: Callable[[], bool], poll_s: float = 0.2, start: int = 0
) -> Iterator[Event]:
    """Yield events as they arrive, from byte `start` on, until `stop()`.

    What was written before `stop()` became true is still yielded.
    """
    offset, rest = start, b""
    while True:
        ended = stop()
        offset, content = _read_from(path, offset)
        *lines, rest = (rest + content).split(b"\n")
        yield from _parse(lines)
        if ended:
            yield from _parse([rest])
            return
        if not content:
            time.sleep(poll_s)


def _parse(lines: list[bytes]) -> Iterator[Event]:
    for line in lines:
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:  # an empty line, or one torn by a kill
            continue
        if isinstance(event, dict) and "type" in event:
            yield event


def _read_from(path: Path, offset: int) -> tuple[int, bytes]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except FileNotFoundError:  # the run has not got so far
        return offset, b""
    return offset + len(content), content


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
