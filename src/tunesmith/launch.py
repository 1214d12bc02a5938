"""Starts the ranks of a run as processes of this machine, and ends with them.

`python -m tunesmith.launch FOLDER` starts `python -m tunesmith.run FOLDER` once for each process
that the folder's recipe asks for, each with its number in the variables that torchrun sets. Its
exit code is the run's: rank 0's, where that ended by itself.

    SIGINT, SIGTERM       go to every rank
    a rank has failed     the others have seconds to say so and to end, then they are ended
    this process is gone  the ranks see it and end (training/strategies/watch.py)
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from tunesmith.core.errors import TunesmithError
from tunesmith.core.log import set_up_logging
from tunesmith.core.rank_failures import run_exit_code, tell_end
from tunesmith.core.rank_place import LAUNCHER_PID, MEETING_FILE
from tunesmith.core.run_dir import RunDir, disk_error
from tunesmith.core.run_lock import require_free
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.processes import num_processes

LOOK_EVERY_S = 0.1
MEETING = "meeting"  # the file in which the ranks find each other
log = logging.getLogger(__name__)

# Ranks that are left have so long to end by themselves once one has failed: rank 0 waits for the
# failed one's word and writes it down (core/rank_failures.py).
GRACE_S = 15.0
STACKS_S = 1.0
# The ranks of a launcher that was killed see it within half a second, and end.
LAUNCHER_IS_GONE_S = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; returns the run's exit code."""
    (folder,) = arguments or sys.argv[1:]
    set_up_logging()
    run_dir = RunDir.open(folder)
    try:
        require_free(run_dir, patience_s=LAUNCHER_IS_GONE_S)
        size = num_processes(recipe_from_resolved(run_dir.resolved_json))
        _make_folder(run_dir.ranks)
    except TunesmithError as refused:
        log.error("%s", refused)
        return refused.exit_code
    ranks = [_start(run_dir, rank, size) for rank in range(size)]
    _pass_on_signals(ranks)
    return _wait(run_dir, ranks)


def _make_folder(ranks: Path) -> None:
    """Make the ranks' folder anew: what is there is of the start before.

    Raises:
        RunError: the disk is full or cannot be written.
    """
    shutil.rmtree(ranks, ignore_errors=True)  # to which a rank that is ending may write
    try:
        ranks.mkdir(parents=True, exist_ok=True)
        (ranks / MEETING).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(ranks, error) from error


def _start(run_dir: RunDir, rank: int, size: int) -> subprocess.Popen[bytes]:
    place = {
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": size,
        MEETING_FILE: run_dir.ranks / MEETING,
        LAUNCHER_PID: os.getpid(),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith.run", str(run_dir.path)],
        env={**os.environ, **{name: str(value) for name, value in place.items()}},
        process_group=0,  # a Ctrl-C at the terminal comes through us, and once
    )


def _pass_on_signals(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        for rank in ranks:
            with suppress(ProcessLookupError):
                rank.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)


def _wait(run_dir: RunDir, ranks: Sequence[subprocess.Popen[bytes]]) -> int:
    deadline = None
    told: set[int] = set()
    while None in [rank.poll() for rank in ranks]:
        for number, rank in enumerate(ranks):
            if rank.returncode and number not in told:
                told.add(number)
                tell_end(run_dir, number, rank.returncode)
                deadline = deadline or time.monotonic() + GRACE_S
        if deadline is not None and time.monotonic() > deadline:
            _end(run_dir.ranks, ranks)
        time.sleep(LOOK_EVERY_S)
    return run_exit_code([rank.returncode for rank in ranks])


def _end(folder: Path, ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what is left, after its stacks are written; a stopped process is woken for it."""
    left = [rank for rank in ranks if rank.poll() is None]
    for number in (signal.SIGUSR1, signal.SIGCONT):
        for rank in left:
            if any(folder.glob("stacks-*.txt")):  # else the signal would end it without a word
                rank.send_signal(number)
    time.sleep(STACKS_S)
    for rank in left:
        rank.kill()
        rank.wait()


if __name__ == "__main__":
    sys.exit(main())
