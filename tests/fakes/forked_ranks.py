"""Runs of two ranks as forks, of which one or all can be ended at an exact instant of rank 0.

The launcher is the real one; only the start of a rank is replaced, by a fork of a process that has
imported everything.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from tests.fakes.forked_run import Instant, be_run
from tunesmith import launch
from tunesmith.core.rank_place import LAUNCHER_PID, MEETING_FILE
from tunesmith.core.run_dir import RunDir

TIMEOUT_S = 300  # an engine takes minutes to begin where others use the processors
Whom = Literal["all", "rank 0", "rank 1"]


@dataclass(eq=False)
class ForkedRank:
    """A fork, as the launcher sees a process that it has started."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_ranks_forked(run_dir: RunDir, *, at: Instant | None = None, whom: Whom = "all") -> int:
    """Carry out the run to its end; the launcher's exit code, negative for a signal."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.fakes.forked_ranks", "tunesmith.run.process", "deepspeed"]
    )
    process = context.Process(target=_launch, args=(str(run_dir.path), at, whom))
    process.start()
    process.join(TIMEOUT_S)
    if process.is_alive():
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.kill()
        raise AssertionError(f"the run has not ended: {run_dir.log.read_text()}")
    assert process.exitcode is not None
    return process.exitcode


def _launch(folder: str, at: Instant | None, whom: Whom) -> None:
    def start(run_dir: RunDir, rank: int, size: int) -> ForkedRank:
        pid = os.fork()
        if pid:
            return ForkedRank(pid)
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(size),
            MEETING_FILE: str(run_dir.ranks / "meeting"),
            LAUNCHER_PID: str(os.getppid()),
        }
        if rank == 0:
            be_run(folder, at=at, die=lambda: _kill(whom))
        be_run(folder, is_seen=False)
        return None

    log = os.open(RunDir(Path(folder)).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    launch._start = start
    code = launch.main([folder])
    sys.stdout.flush()
    os._exit(code)


def _kill(whom: Whom) -> None:
    """End the launcher and all ranks, or one of them, from within rank 0."""
    launcher = psutil.Process(os.getppid())
    others = [child for child in launcher.children() if child.pid != os.getpid()]
    if whom == "all":
        launcher.kill()
    if whom != "rank 0":
        for other in others:
            other.kill()
    if whom != "rank 1":
        os.kill(os.getpid(), signal.SIGKILL)
