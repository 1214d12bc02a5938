"""How much room prepared rows take: what was used longest ago is deleted, but nothing in use.

A folder that is read is held by a shared lock on its meta.json (`Store.open`), which the kernel
lets go of when the process ends. Files are opened when they are first asked for, so a folder may
not vanish before.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MAX_BUILDING_S = 24 * 3600  # what nobody has written to for so long, nobody will finish


def make_room(root: Path, most_bytes: int) -> None:
    """Delete the folders that were used longest ago, as far as they go beyond a size."""
    total = 0
    for _, size, folder in sorted(_finished(root), reverse=True):
        total += size
        if total > most_bytes:
            _delete_unless_in_use(folder)
    for folder in root.glob(".building-*"):
        if time.time() - _last_written(folder) > _MAX_BUILDING_S:
            shutil.rmtree(folder, ignore_errors=True)


def _finished(root: Path) -> Iterator[tuple[float, int, Path]]:
    """Yield when each folder was used last, its size, and where it is."""
    for folder in root.iterdir():
        # Another process may be deleting it.
        with suppress(FileNotFoundError):
            if not folder.name.startswith(".") and (folder / "meta.json").is_file():
                size = sum(file.stat().st_size for file in folder.iterdir())
                yield folder.stat().st_mtime, size, folder


def _delete_unless_in_use(folder: Path) -> None:
    try:
        file = os.open(folder / "meta.json", os.O_RDWR)
    except OSError:  # it is gone, or another user's
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(file)


def _last_written(folder: Path) -> float:
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return time.time()
