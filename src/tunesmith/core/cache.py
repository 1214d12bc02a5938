"""The user's cache folder, and how it is written: by one process at a time, with clear errors.

The locks are POSIX file locks: the kernel lets go of them when a process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tunesmith.core.errors import Fault, MachineError

NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


def cache_root() -> Path:
    """$TUNESMITH_CACHE, else `tunesmith` in the platform's own cache folder."""
    if chosen := os.environ.get("TUNESMITH_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tunesmith"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tunesmith"


@contextmanager
def lock(name: str, *, on_progress: Callable[[str], None]) -> Generator[None]:
    """Holds the lock `name` against every other process of this user; waits for it if need be."""
    path = cache_root() / "locks" / f"{name}.lock"
    with cache_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(f"waiting: another process is preparing {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def cache_writes(path: Path) -> Generator[None]:
    """Turns a failure to write into the cache into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise _not_writable(error.strerror, str(error.filename or path)) from error
    except SafetensorError as error:
        # Its writer gives the system's error as text only.
        if "No space left" not in str(error):
            raise
        raise _not_writable("No space left on device", str(path)) from error


def require_space(needed_bytes: int) -> None:
    """Refuses what would fill the cache's disk, before the time is spent."""
    root = cache_root()
    with cache_writes(root):
        root.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(root).free
    if free_bytes >= needed_bytes:
        return
    raise MachineError(
        Fault(
            found=f"the cache entry needs {needed_bytes / 1e6:.0f} MB in the cache, "
            f"and {free_bytes / 1e6:.0f} MB are free",
            where=str(root),
            fix="free some space, or set TUNESMITH_CACHE to a folder on another disk",
        ),
        code="no_space",
    )


def _not_writable(reason: str | None, where: str) -> MachineError:
    fix = (
        f"free some space or make {cache_root()} writable, or set TUNESMITH_CACHE to another folder"
    )
    found = f"the cache cannot be written: {reason}"
    return MachineError(Fault(found=found, where=where, fix=fix), code="cache_not_writable")


def fill_beside(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill an entry's folder beside its place; the rename at the end makes it exist.

    The caller holds the entry's lock.
    """
    unfinished = folder.with_name(f".building-{folder.name}")
    with cache_writes(folder):
        # Whatever lies here was left by a process that died.
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    try:
        with cache_writes(folder):
            fill(unfinished)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
