"""A few steps whose state lies on a disk, by ranks that move small tensors there, too."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fakes.rank_training import Case, Trained, halt, resume, train
from tunesmith.recipe.strategy import DeepSpeedStrategy
from tunesmith.training.strategies.ranks import Ranks

SMALLEST_BYTES = 1024  # the engine's own is 1 MiB


def on_disk(folder: Path) -> DeepSpeedStrategy:
    """The strategy, with files in `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder.parent / "engine.json"
    # What stays together is never on a disk, with the engine's own sizes.
    zero = {"stage3_param_persistence_threshold": SMALLEST_BYTES // 8}
    asked = {"aio": {"block_size": SMALLEST_BYTES}, "zero_optimization": zero}
    settings.write_text(json.dumps(asked))
    return DeepSpeedStrategy(
        type="deepspeed",
        zero=3,
        offload="disk",
        offload_path=str(folder),
        config=str(settings),
    )


def train_on_disk(ranks: Ranks, case: Case) -> tuple[Trained, list[str]]:
    """Return what was found, and the files of this rank."""
    _move_small_tensors()
    found = train(ranks, case)
    assert isinstance(case.strategy, DeepSpeedStrategy)
    folder = Path(str(case.strategy.offload_path))
    files = folder.glob(f"*/zero_stage_3/*/rank{ranks.place.rank}/*")
    return found, sorted(f"{file.parent.parent.name}/{file.name}" for file in files)


def halt_on_disk(ranks: Ranks, case: Case, folder: Path, after: int) -> None:
    _move_small_tensors()
    halt(ranks, case, folder, after)


def resume_on_disk(ranks: Ranks, case: Case, folder: Path) -> Trained:
    _move_small_tensors()
    return resume(ranks, case, folder)


def _move_small_tensors() -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    for name in ("partitioned_param_swapper", "optimizer_utils"):
        module: Any = import_module(f"deepspeed.runtime.swap_tensor.{name}")
        module.MIN_AIO_BYTES = SMALLEST_BYTES
