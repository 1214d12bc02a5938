"""One process at a time carries out a run: it holds the lock of the run folder.

The lock is the kernel's and goes with its process, however that ends. It is a record lock, which no
child inherits: a worker that outlives a killed run does not keep the run from going on.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import IO

from tunesmith.core.errors import Fault, MachineError
from tunesmith.core.run_dir import RunDir, disk_error

log = logging.getLogger(__name__)

LOCK_FILE = "lock"
# Whoever only asks for the holder has the lock for an instant.
PATIENCE_S = 1.0
HELD = {errno.EACCES, errno.EAGAIN}


@contextmanager
def hold_run(run_dir: RunDir) -> Generator[None]:
    """Hold the run folder against every other process.

    Raises:
        MachineError: another process has it, or it cannot be written.
    """
    try:
        file = (run_dir.path / LOCK_FILE).open("ab", buffering=0)
    except OSError as error:
        known = disk_error(run_dir.path, error)
        raise MachineError(known.faults, code=known.code) from error
    with file:
        if not _take(file, patience_s=PATIENCE_S):
            raise _already_held(run_dir)
        _write_holder(file)
        yield


def is_held(run_dir: RunDir, *, patience_s: float = 0.0) -> bool:
    """Whether another process carries out the run, and still does after `patience_s`."""
    try:
        file = (run_dir.path / LOCK_FILE).open("r+b", buffering=0)
    except OSError:  # no process has begun it, or none can
        return False
    with file:
        return not _take(file, patience_s=patience_s)


def require_free(run_dir: RunDir, *, patience_s: float = 0.0) -> None:
    """See that no other process carries out the run.

    Raises:
        MachineError: one does, and still does after `patience_s`.
    """
    if is_held(run_dir, patience_s=patience_s):
        raise _already_held(run_dir)


def _already_held(run_dir: RunDir) -> MachineError:
    """Return the error for a run that goes on already, with the number of its process."""
    holder = b""
    with suppress(OSError):
        holder = (run_dir.path / LOCK_FILE).read_bytes().strip()
    fault = Fault(
        found=f"this run is going on already (process {holder.decode(errors='replace') or '?'})",
        where=str(run_dir.path),
        fix="wait for its end, or ask it to stop: write `pause` into the folder's file `control`",
    )
    return MachineError(fault, code="run_active")


def _take(file: IO[bytes], *, patience_s: float) -> bool:
    """Try to lock the file; on a disk without locks there is nothing to hold."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in HELD:
                log.warning("the run folder's disk has no locks: see that no other process runs it")
                return True
        else:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)


def _write_holder(file: IO[bytes]) -> None:
    with suppress(OSError):  # the number is for people; the lock holds without
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
