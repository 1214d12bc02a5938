"""Asks a process of its own for what needs torch, which the command never imports.

The process says how far it is as JSON lines on standard error ({"progress": ...}), and gives its
answer as one JSON line on standard output, an {"error": ...} among them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.cli import output
from tunesmith.core.errors import Fault, RunError, TunesmithError
from tunesmith.core.threads import with_short_spins


def ask(argv: Sequence[str], *, what: str, error: type[TunesmithError]) -> dict[str, Any]:
    """Run a process and return its answer; what takes time is said on standard error.

    Args:
        argv: The process's command.
        what: What it is asked about, for an error that names nothing else.
        error: The kind of its errors that are the user's to mend.

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
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        tail = ""
        for line in process.stderr:  # the answer on the other pipe is one line, which it holds
            progress = _parse(line).get("progress")
            if progress:
                output.note(str(progress))
            elif line.strip():
                tail = line.strip()
        answer = _parse(process.stdout.read())
    if answer and "error" not in answer:
        return answer
    raise _failure(argv, what, answer.get("error") or {}, tail, error)


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
        return (RunError if failed else error)(faults, code=str(answer.get("code", "")))
    found = f"it could not be done: {tail or 'its process gave no answer'}"
    fix = f"try it by itself: {' '.join(('python', *argv[1:]))}"
    return error(Fault(found=found, where=what, fix=fix))


def _parse(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
