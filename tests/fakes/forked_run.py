"""Runs as forks of a process that has imported everything, which can be ended at an exact instant.

An instant is a file operation of the run, named by what it does to which file and how many times it
has done so before: "open checkpoints/.step-4.tmp/manifest.json, the 1st". Just before it, the
process kills itself as SIGKILL does, or from there on its disk is full.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from tunesmith.core.run_dir import RunDir

TIMEOUT_S = 120
TRACE_FILE = "trace.txt"
TEMPORARY = re.compile(r"\.\d+\.tmp")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Instant(NamedTuple):
    """The `count`-th time (from 1) that the run is about to do `what`."""

    what: str
    count: int


@dataclass
class Disk:
    """Sees every file operation inside a folder before it happens."""

    folder: str
    at: Instant | None
    then: Literal["die", "full"]
    trace: list[Instant] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    is_full: bool = False
    die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not flags & WRITING:
                return
        elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            path = arguments[1] if event == "os.rename" else arguments[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder):
            self.see(event.removeprefix("os."), os.fspath(path))

    def see(self, word: str, path: str) -> None:
        what = f"{word} {TEMPORARY.sub('.tmp', path.removeprefix(self.folder))}"
        self.counts[what] += 1
        instant = Instant(what, self.counts[what])
        self.trace.append(instant)
        if instant == self.at and self.then == "die":
            self.at = None
            self.die()
        self.is_full = self.is_full or instant == self.at
        if self.is_full and word not in ("remove", "rmdir"):
            raise OSError(errno.ENOSPC, "No space left on device", path)

    def half_written(self, path: Path) -> None:
        """See that a file of weights is half written: killed, the rest never comes."""
        what = f"half {TEMPORARY.sub('.tmp', str(path).removeprefix(self.folder))}"
        if self.at is not None and self.at.what == what and self.then == "die":
            os.truncate(path, path.stat().st_size // 2)
        self.see("half", str(path))


def run_forked(
    run_dir: RunDir,
    *,
    at: Instant | None = None,
    then: Literal["die", "full"] = "die",
    die: Callable[[], None] | None = None,
    prepare: Callable[[], None] | None = None,
) -> int:
    """Carry out the run to its end; the exit code, negative for a signal.

    `die` happens in the place of a kill. `prepare`, a function of a module, changes the fork
    before the run begins.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fakes.forked_run", "tunesmith.run.process"])
    process = context.Process(target=_carry_out, args=(str(run_dir.path), at, then, die, prepare))
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        process.kill()
        raise AssertionError(f"the run has not ended: {run_dir.log.read_text()}")
    assert process.exitcode is not None
    return process.exitcode


def read_trace(run_dir: RunDir) -> list[Instant]:
    """All file operations of a run that came to its end."""
    lines = (run_dir.path / TRACE_FILE).read_text().splitlines()
    return [Instant(*json.loads(line)) for line in lines]


def _carry_out(
    folder: str,
    at: Instant | None,
    then: Literal["die", "full"],
    die: Callable[[], None] | None,
    prepare: Callable[[], None] | None,
) -> None:
    log = os.open(RunDir(Path(folder)).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if prepare is not None:
        prepare()
    be_run(folder, at=at, then=then, die=die)


def be_run(
    folder: str,
    *,
    at: Instant | None = None,
    then: Literal["die", "full"] = "die",
    die: Callable[[], None] | None = None,
    is_seen: bool = True,
) -> NoReturn:
    """Be the run's process, or a rank's, from here on; `is_seen` keeps what it does to the disk."""
    import safetensors.torch

    from tunesmith.run.process import main

    disk = Disk(folder + "/", at, then)
    disk.die = die or disk.die
    save_file = safetensors.torch.save_file

    def save_seen(tensors: Any, file: Any, **settings: Any) -> None:
        disk.see("save", str(file)) if str(file).startswith(disk.folder) else None
        save_file(tensors, file, **settings)
        disk.half_written(Path(file)) if str(file).startswith(disk.folder) else None

    if is_seen:
        safetensors.torch.save_file = save_seen  # its own writes are no events of Python's
        sys.addaudithook(disk.audit)
    code = main([folder])
    disk.at, disk.is_full = None, False
    if is_seen and code == 0:
        lines = "".join(json.dumps(instant) + "\n" for instant in disk.trace)
        Path(folder, TRACE_FILE).write_text(lines)
    sys.stdout.flush()
    os._exit(code)
