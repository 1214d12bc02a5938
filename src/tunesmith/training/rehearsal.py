"""Saves once before step 1, so that a run cannot train for hours and then fail to save.

What is rehearsed is thrown away: the final folder, as it is written at the end, and the merge of
one layer. A disk that holds less than the run will keep is told; one that cannot even hold a
checkpoint and the final folder is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.core.errors import Fault, MachineError, RunError, TunesmithError
from tunesmith.core.hardware import free_disk_bytes
from tunesmith.core.run_dir import disk_error
from tunesmith.methods.base import AppliedMethod, count_trainable
from tunesmith.methods.lora_method import AppliedLora, update_of
from tunesmith.methods.merge import PROBE_TOLERANCE, check_merged, merged_weight
from tunesmith.models.linear import weight_of
from tunesmith.recipe.method import FullMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.training.memory import OPTIMIZER_BYTES

REHEARSAL = ".rehearsal.tmp"
TOKENIZER_BYTES = 20_000_000
# A larger final folder is not written for nothing; its first bytes and the room for it are tried.
LARGEST_REHEARSED_BYTES = 500_000_000


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a run will keep on its disk, in bytes."""

    checkpoint: int
    final: int
    kept_checkpoints: int

    @property
    def least(self) -> int:
        """What nothing can be saved without."""
        return self.checkpoint + self.final

    @property
    def most(self) -> int:
        """All that is kept, and the checkpoint that is written beside it."""
        return (self.kept_checkpoints + 1) * self.checkpoint + self.final


def room_of(recipe: Recipe, method: AppliedMethod, *, model_bytes: int) -> Room:
    """Work out the room that a run needs: fp32 values, the optimizer's state, the final folder."""
    trained = count_trainable(method)
    whole = isinstance(recipe.method, FullMethod)
    return Room(
        checkpoint=int(trained * (4 + OPTIMIZER_BYTES[recipe.training.optimizer])),
        # an adapter may be saved with its start beside it
        final=(model_bytes if whole else 2 * 4 * trained) + TOKENIZER_BYTES,
        kept_checkpoints=recipe.training.keep_checkpoints,
    )


def rehearse_saving(
    run_folder: Path, method: AppliedMethod, room: Room, save: Callable[[Path], None]
) -> str | None:
    """Try the disk, the final folder and a merge; a warning where the disk may fill up.

    `save` writes the final folder's files into a folder.

    Raises:
        MachineError: the disk cannot hold a checkpoint and the final folder.
        RunError: the folder cannot be written, or a layer cannot be merged.
    """
    free = free_disk_bytes(run_folder)
    if free < room.least:
        raise MachineError(_no_space(run_folder, room, free), code="no_space")
    folder = run_folder / REHEARSAL
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if room.final <= LARGEST_REHEARSED_BYTES:
            save(folder)
    except OSError as error:
        raise disk_error(run_folder / "final", error) from error
    except TunesmithError as error:
        where = str(run_folder / "final")
        faults = [Fault(found=fault.found, where=where, fix=fault.fix) for fault in error.faults]
        raise RunError(faults, code=error.code) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _rehearse_merge(method)
    if free >= room.most:
        return None
    return (
        f"the run keeps up to {room.most:,} bytes on its disk, and {free:,} are free; to do: free "
        "some space, lower training.keep_checkpoints, or use --run-dir on another disk"
    )


def _rehearse_merge(method: AppliedMethod) -> None:
    if not isinstance(method, AppliedLora):
        return
    path, layer = next(iter(method.layers.items()))
    weight, update = weight_of(layer.base).detach(), update_of(layer)
    error = check_merged(weight, update, merged_weight(weight, update).detach())
    if not error <= PROBE_TOLERANCE:
        found = f"the adapter's layer and its merged matrix differ by {error:.1e} before step 1"
        fix = "report this with the recipe; the run would train what cannot be merged"
        raise RunError(Fault(found=found, where=path, fix=fix), code="merge_differs")


def _no_space(folder: Path, room: Room, free: int) -> Fault:
    return Fault(
        found=f"no space: a checkpoint and the final folder need {room.least:,} bytes, and "
        f"{free:,} are free",
        where=str(folder),
        fix="free some space, or use --run-dir on another disk",
    )
