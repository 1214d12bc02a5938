"""Finds a rank that hangs, and one whose launcher is gone.

    ranks/beat-N         what rank N does, written whenever it goes on within a step
    ranks/stacks-N.txt   where all threads of rank N were when nothing went on any more

A launcher that is gone takes its ranks along at once. Where it was another one's (mpirun, srun) and
had asked for a stop before, the ranks first finish their step and save: these give a process about
a second from the signal to its end, and a step takes what it takes.

Ranks wait for each other, so one that hangs stops all. Each process looks at all beats: where the
newest is older than the limit, it writes down its stacks and ends with exit code 3; rank 0 tells
the run folder before. A thread does this, which runs while the others wait.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tunesmith.core.errors import Fault, RunError
from tunesmith.core.rank_place import LAUNCHER_PID, RankPlace

EXIT_CODE = RunError.exit_code
LOOK_EVERY_S = 0.5
# Rank 0 has so long to tell the run folder before the others end.
OTHERS_WAIT_S = 3.0


@dataclass(eq=False)
class Watch:
    """Watches over the ranks of one run from within one of them; `tell` is called on rank 0.

    `is_stopping` says whether the run was asked to stop.
    """

    folder: Path
    place: RankPlace
    limit_s: float
    tell: Callable[[RunError], None]
    is_stopping: Callable[[], bool] = lambda: False
    _is_stepping: bool = field(default=False)
    _has_ended: bool = field(default=False)

    def start(self) -> None:
        """Begin to look, in a thread; a launcher's SIGUSR1 writes the stacks, too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stacks = self._stacks.open("w")
        if hasattr(faulthandler, "register"):  # not on Windows
            faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
        threading.Thread(target=self._look, args=(stacks,), daemon=True).start()

    def stop(self) -> None:
        """End the watch at the end of the run; what it has written goes."""
        self._has_ended = True
        if hasattr(faulthandler, "unregister"):
            faulthandler.unregister(signal.SIGUSR1)
        for path in (self._stacks, self._beat):
            path.unlink(missing_ok=True)

    @property
    def _stacks(self) -> Path:
        return self.folder / f"stacks-{self.place.rank}.txt"

    @property
    def _beat(self) -> Path:
        return self.folder / f"beat-{self.place.rank}"

    def beat(self, doing: str) -> None:
        """Say what this rank does now."""
        if self._is_stepping:
            self._beat.write_text(doing, encoding="utf-8")

    @contextmanager
    def stepping(self) -> Generator[None]:
        """Within the block nothing may take longer than the limit."""
        self._is_stepping = True
        self.beat("beginning")
        try:
            yield
        finally:
            self._is_stepping = False

    @contextmanager
    def patient(self) -> Generator[None]:
        """Within the block anything may take as long as it takes: an evaluation, a checkpoint."""
        was_stepping, self._is_stepping = self._is_stepping, False
        try:
            yield
        finally:
            self._is_stepping = was_stepping
            self.beat("going on")

    def _look(self, stacks: IO[str]) -> None:
        launcher = int(os.environ.get(LAUNCHER_PID) or os.getppid())
        while not self._has_ended:
            time.sleep(min(LOOK_EVERY_S, self.limit_s / 4))
            if _is_launcher_gone(launcher) and not self._may_save():
                os._exit(EXIT_CODE)
            silence = self._silence_s()
            if self._is_stepping and silence is not None and silence > self.limit_s:
                self._end(silence, stacks)

    def _may_save(self) -> bool:
        return LAUNCHER_PID not in os.environ and self.is_stopping()

    def _silence_s(self) -> float | None:
        beats = [path.stat().st_mtime for path in self.folder.glob("beat-*")]
        return time.time() - max(beats) if beats else None

    def _end(self, silence_s: float, stacks: IO[str]) -> None:
        faulthandler.dump_traceback(file=stacks, all_threads=True)
        if self.place.rank == 0:
            self.tell(self._error(silence_s))
        time.sleep(OTHERS_WAIT_S)  # the others write their stacks, and rank 0 tells
        os._exit(EXIT_CODE)

    def _error(self, silence_s: float) -> RunError:
        doing = "; ".join(
            f"rank {rank}: {_read(self.folder / f'beat-{rank}')}" for rank in range(self.place.size)
        )
        fault = Fault(
            found=f"no rank has gone on for {silence_s:.0f} s ({doing})",
            where=f"{self.folder}: stacks-N.txt says where each rank was",
            fix="look at the rank that does not wait for the others; then go on from the last "
            "checkpoint with --resume, or set a longer strategy.hang_after_s",
        )
        return RunError(fault, code="rank_hangs")


def end_with_launcher() -> None:
    """Let a run of one process end where the process that has started it as a rank is gone."""
    if LAUNCHER_PID in os.environ:
        threading.Thread(target=_wait_for_launcher_to_go, daemon=True).start()


def _wait_for_launcher_to_go() -> None:
    while not _is_launcher_gone(int(os.environ[LAUNCHER_PID])):
        time.sleep(LOOK_EVERY_S)
    os._exit(EXIT_CODE)


def _is_launcher_gone(launcher: int) -> bool:
    return os.getppid() != launcher


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return "nothing heard"
