"""A launcher of ranks that is as short with them as mpirun: for where there is none.

`python -m tests.fakes.launcher COMMAND ...` starts the command twice, with the rank variables of
Open MPI. Once a process has failed, or it was asked to stop, it does what Open MPI does: SIGTERM to
all, and a second later SIGKILL, to them and to none of their children. Its exit code is that of the
first one that failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

SIZE = 2
PATIENCE_S = 1.0


def main(command: Sequence[str]) -> int:
    """The launcher; returns its exit code."""
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: asked.append(number))
    ranks = [start(command, rank) for rank in range(SIZE)]
    while not asked and not any(rank.poll() for rank in ranks):
        if all(rank.poll() == 0 for rank in ranks):
            return 0
        time.sleep(0.01)
    first = next((rank.returncode for rank in ranks if rank.returncode), 1)
    for rank in ranks:
        rank.terminate()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and any(rank.poll() is None for rank in ranks):
        time.sleep(0.01)
    for rank in ranks:
        rank.kill()
        rank.wait()
    return first


def start(command: Sequence[str], rank: int) -> subprocess.Popen[bytes]:
    """Start one process, in a group of its own."""
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    values = (rank, SIZE, rank, SIZE)
    place = {f"OMPI_COMM_WORLD_{name}": str(it) for name, it in zip(names, values, strict=True)}
    return subprocess.Popen(command, env={**os.environ, **place}, process_group=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
