"""Asks a process of its own for what needs torch, which the command never imports.

The process says how far it is as JSON lines on standard error ({"progress": ...}, and others that
its caller shows), and gives its answer as one JSON line on standard output, an {"error": ...} among
them.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tunesmith.cli import output
from tunesmith.core.errors import Fault, RunError, TunesmithError
from tunesmith.core.stopping import INTERRUPTED
from tunesmith.core.threads import with_short_spins


def ask(
    argv: Sequence[str],
    *,
    what: str,
    error: type[TunesmithError],
    show: Callable[[Mapping[str, Any]], None] | None = None,
    descriptors: Sequence[int] = (),
) -> dict[str, Any]:
    """Run a process and return its answer; what takes time is said on standard error.

    Args:
        argv: The process's command.
        what: What it is asked about, for an error that names nothing else.
        error: The kind of its errors that are the user's to mend.
        show: Shows its JSON lines on standard error, in place of the notes that are printed here.
        descriptors: Open files that it gets, under their numbers.

    Raises:
        TunesmithError: of that kind, or a RunError, with the process's faults or its last words.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=with_short_spins(),
        pass_fds=descriptors,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    # Both pipes at once: an answer of many faults is more than a pipe holds.
    with process, ThreadPoolExecutor(1) as reader:
        answered = reader.submit(process.stdout.read)
        tail = ""
        try:
            for line in process.stderr:
                told = _parse(line)
                if told:
                    (show or _note)(told)
                elif line.strip():
                    tail = line.strip()
            answer = _parse(answered.result())
        except BaseException:
            process.terminate()
            raise
    if answer and "error" not in answer:
        return answer
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode < 0:
        raise _killed(-process.returncode, what)
    raise _failure(argv, what, answer.get("error") or {}, tail, error)


def _killed(number: int, what: str) -> RunError:
    reason = " (killed: often the system, when memory runs out)" if number == 9 else ""
    fault = Fault(
        found=f"its process was ended by signal {number}{reason}",
        where=what,
        fix="free memory if it ran out, and try again",
    )
    return RunError(fault, code="process_killed")


def _note(told: Mapping[str, Any]) -> None:
    if told.get("progress"):
        output.note(str(told["progress"]))


def _failure(
    argv: Sequence[str],
    what: str,
    answer: Mapping[str, Any],
    tail: str,
    error: type[TunesmithError],
) -> TunesmithError:
    faults = [
        Fault(found=str(fault["found"]), where=str(fault["where"]), fix=str(fault["fix"]))
        for fault in answer.get("faults", ())
    ]
    if faults:
        failed = answer.get("exit_code") == RunError.exit_code
        kind, code = RunError if failed else error, str(answer.get("code", ""))
        return kind(faults, code=code, total=answer.get("total"))
    found = f"it could not be done: {tail or 'its process gave no answer'}"
    fix = f"try it by itself: {shlex.join(('python', *argv[1:]))}"
    return error(Fault(found=found, where=what, fix=fix))


def _parse(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
