"""Gets a model's folder through a process of its own, since preparing weights needs torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.cli import output
from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.threads import with_short_spins

MODULE = "tunesmith.models.prepare"


def model_folder(source: str, *, command: Sequence[str] | None = None) -> Path:
    """The folder of a prepared model; what takes time is said on standard error."""
    argv = command or (sys.executable, "-m", MODULE, source)
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
    if "folder" in answer:
        return Path(answer["folder"])
    raise _failure(source, answer, tail)


def _failure(source: str, answer: Mapping[str, Any], tail: str) -> ModelError:
    error = answer.get("error") or {}
    faults = [
        Fault(found=str(fault["found"]), where=str(fault["where"]), fix=str(fault["fix"]))
        for fault in error.get("faults", ())
    ]
    if faults:
        return ModelError(faults, code=str(error.get("code", "")))
    found = f"the model could not be prepared: {tail or 'its process gave no answer'}"
    fix = f"try it by itself: python -m {MODULE} {source}"
    return ModelError(Fault(found=found, where=source, fix=fix))


def _parse(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
