"""The file of answers: one JSON object a line, whole lines only, and a header beside it.

    answers.jsonl               {"row_id": "rows.jsonl:1", "answer": "...", ...}
    answers.jsonl.header.json   what the answers depend on: hashes of input and model, settings

A process that was stopped may leave half a line, which is taken off before the next one is written.
One process writes at a time: the kernel lets go of the lock when it dies.
"""

from __future__ import annotations

import fcntl
import io
import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import orjson

from tunesmith.core.errors import Fault, MachineError, UserError
from tunesmith.core.run_dir import disk_error, read_json, write_json
from tunesmith.inference.predict_request import Existing

_BLOCK_BYTES = 1 << 20

Settings = Mapping[str, Any]


class AnswersFile:
    """An open file of answers; `num_lines` were there before."""

    def __init__(self, path: Path, file: io.FileIO, *, num_lines: int = 0) -> None:
        self.path = path
        self.num_lines = num_lines
        self._file = file

    def row_ids(self) -> Iterator[str]:
        """Yield the row of each line that was there before.

        Raises:
            UserError: a line is no answer.
        """
        if not self.num_lines:
            return
        with self.path.open("rb") as file:
            for number, line in zip(range(1, self.num_lines + 1), file, strict=False):
                yield _row_id(line, self.path, number)

    def write(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Append a line for each answer; when this returns they are with the system."""
        lines = b"".join(orjson.dumps(dict(answer)) + b"\n" for answer in answers)
        try:
            while lines:  # a nearly full disk or a pipe takes a part without an error
                lines = lines[self._file.write(lines) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            raise disk_error(self.path, error) from error


def header_of(path: Path) -> Path:
    """Return where the header of a file of answers is."""
    return path.with_name(f"{path.name}.header.json")


def require_writable(path: Path, existing: Existing, inputs: Sequence[Path]) -> None:
    """See that answers may be written to `path`, before anything is loaded.

    Raises:
        UserError: it holds answers and neither --resume nor --overwrite is given, or it is one of
            the `inputs`.
    """
    if path.is_dir() or not path.parent.is_dir():
        found = "a folder, where a file should be" if path.is_dir() else "there is no such folder"
        where = path if path.is_dir() else path.parent
        fix = "name a file in a folder that exists: --output answers.jsonl"
        raise UserError(Fault(found=found, where=str(where), fix=fix))
    if any(path.exists() and path.samefile(one) for one in inputs):
        fix = "name another file with --output"
        raise UserError(Fault(found="the input, where answers go", where=str(path), fix=fix))
    if existing == "refuse" and _size(path):
        fix = "go on with --resume, begin anew with --overwrite, or name another file"
        fault = Fault(found="a file that exists already", where=str(path), fix=fix)
        raise UserError(fault, code="answers_exist")


@contextmanager
def open_answers(path: Path, settings: Settings, existing: Existing) -> Generator[AnswersFile]:
    """Open a file of answers, behind its last whole line where it is gone on with.

    Raises:
        UserError: what is there was made with other settings.
        MachineError: another process writes to it.
    """
    try:
        file = io.FileIO(path, "a")
    except OSError as error:
        raise disk_error(path, error) from error
    with file:
        _hold(file, path)
        if existing == "overwrite":
            file.truncate(0)
        if _size(path):
            _require_same(path, settings)
        else:
            write_json(header_of(path), dict(settings))
        yield AnswersFile(path, file, num_lines=_keep_whole_lines(path, file))


def _hold(file: io.FileIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        fix = "wait for it, end it, or name another file with --output"
        fault = Fault(found="another process writes to this file", where=str(path), fix=fix)
        raise MachineError(fault, code="answers_in_use") from error


def _require_same(path: Path, settings: Settings) -> None:
    header = header_of(path)
    if not header.is_file():
        fix = "begin anew with --overwrite"
        found = "answers without their header, so what made them is not known"
        raise UserError(Fault(found=found, where=str(header), fix=fix), code="answers_unknown")
    before = cast("dict[str, Any]", read_json(header))
    now = cast("dict[str, Any]", orjson.loads(orjson.dumps(dict(settings))))
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if not changed:
        return
    told = [_difference(key, before.get(key), now.get(key)) for key in changed]
    fault = Fault(
        found=f"answers that were made in another way: {'; '.join(told)}",
        where=str(path),
        fix="give the same again, or begin anew with --overwrite",
    )
    raise UserError(fault, code="answers_differ")


def _difference(key: str, before: object, now: object) -> str:
    if key.endswith("_sha256"):
        return f"the content of the {key.removesuffix('_sha256')} is another"
    return f"{key} was {json.dumps(before)} and is {json.dumps(now)}"


def _keep_whole_lines(path: Path, file: io.FileIO) -> int:
    """Take off what stands behind the last line end; return the number of lines."""
    num_lines = end = offset = 0
    with path.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            num_lines += block.count(b"\n")
            last = block.rfind(b"\n")
            end = offset + last + 1 if last >= 0 else end
            offset += len(block)
    if end < offset:
        file.truncate(end)
    return num_lines


def _row_id(line: bytes, path: Path, number: int) -> str:
    try:
        values: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        values = None
    row_id = cast("dict[str, Any]", values).get("row_id") if isinstance(values, dict) else None
    if isinstance(row_id, str):
        return row_id
    fix = "begin anew with --overwrite"
    raise UserError(Fault(found="a line that is no answer", where=f"{path}:{number}", fix=fix))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
