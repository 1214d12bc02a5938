"""The files in which an engine keeps a run's state on a disk: where, how much room, and their end.

    FOLDER/tunesmith-NAME-1a2b3c4d/zero_stage_3/float32params/rank0/12_param.tensor.swp
                                                optimizer/rank0/...

FOLDER is the recipe's `strategy.offload_path`; the folder in it is the run's own, so that runs can
share a disk. What is in it is of use to nobody but the process that wrote it: a run that goes on
reads its checkpoint. Each rank removes its own files when it ends, and before it starts, for the
rank before it may have been killed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tunesmith.core.errors import Fault, MachineError
from tunesmith.core.hardware import free_disk_bytes
from tunesmith.core.rank_place import RankPlace
from tunesmith.recipe.strategy import DeepSpeedStrategy, Strategy

WHERE = "recipe: strategy.offload_path"
OFFLOAD_OTHERWISE = "use strategy.offload: cpu, or none"


def offload_folder(strategy: Strategy, run_folder: Path) -> Path | None:
    """Return the run's folder for what lies on a disk; None where nothing does."""
    if not isinstance(strategy, DeepSpeedStrategy) or strategy.offload_path is None:
        return None
    key = hashlib.sha256(os.fsencode(run_folder.absolute())).hexdigest()[:8]
    parent = Path(strategy.offload_path).expanduser().absolute()
    return parent / f"tunesmith-{run_folder.name}-{key}"


def require_offload_room(strategy: Strategy, run_folder: Path, needed: int) -> None:
    """See to it that the disk has room for so many bytes, of all ranks of this machine.

    Raises:
        MachineError: it has not, or cannot be written.
    """
    folder = offload_folder(strategy, run_folder)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = free_disk_bytes(folder)
    except OSError as error:
        fix = f"name a folder that can be written, or {OFFLOAD_OTHERWISE}"
        fault = Fault(found=f"{folder.parent}: {error.strerror or error}", where=WHERE, fix=fix)
        raise MachineError(fault, code="no_offload_folder") from error
    if free < needed:
        fault = Fault(
            found=f"no space: what the ranks of this machine keep there is {needed:,} bytes, and "
            f"{free:,} are free on the disk of {folder.parent}",
            where=WHERE,
            fix=f"free some space, name a folder on another disk, or {OFFLOAD_OTHERWISE}",
        )
        raise MachineError(fault, code="no_space")


@contextmanager
def offload_files(strategy: Strategy, run_folder: Path, place: RankPlace) -> Generator[None]:
    """Within the block a rank has its files there; before and after, it has none."""
    folder = offload_folder(strategy, run_folder)
    if folder is None:
        yield
        return
    _remove(folder, place.rank)
    try:
        yield
    finally:
        _remove(folder, place.rank)


def _remove(folder: Path, rank: int) -> None:
    """Remove a rank's files, and the folders above them that are empty then."""
    for own in folder.glob(f"*/*/rank{rank}"):
        shutil.rmtree(own, ignore_errors=True)
    for above in [*folder.glob("*/*"), *folder.glob("*"), folder]:
        with suppress(OSError):  # another rank's files are in it
            above.rmdir()
