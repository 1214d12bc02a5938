"""Weights & Biases, offline: files in RUN/tracking/wandb, which `wandb sync` uploads when asked.

On a full disk the library goes on without a word: the size of what it wrote is looked at, too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.errors import Fault, RunError
from tunesmith.tracking.numbers import Numbers
from tunesmith.tracking.tracker import TrackedRun

WRITTEN_WITHIN_S = 5.0  # a process of the library's own writes


@dataclass(eq=False)
class WandbRun:
    """An offline run. Steps are numbers of their own: wandb's own step may only grow.

    `least_bytes` is what the names alone take of all that was logged; the file has them as text.
    """

    run: Any
    folder: Path
    least_bytes: int = 0

    def log(self, numbers: Numbers) -> None:
        """Log all numbers with their step."""
        self.run.log({**numbers.values, "step": numbers.step})
        self.least_bytes += sum(map(len, numbers.values))

    def end(self, *, succeeded: bool) -> str:
        """Close the files.

        Raises:
            RunError: they do not hold all that was logged.
        """
        self.run.finish(exit_code=0 if succeeded else 1)
        deadline = time.monotonic() + WRITTEN_WITHIN_S
        while (held := self._held_bytes()) < self.least_bytes and time.monotonic() < deadline:
            time.sleep(0.05)
        if held < self.least_bytes:
            found = f"wandb wrote {held:,} bytes of at least {self.least_bytes:,}"
            fix = "free space there, and see the files in wandb/latest-run/logs"
            raise RunError(Fault(found=found, where=str(self.folder), fix=fix))
        return f"upload it with: wandb sync {self.folder}/wandb/offline-run-*"

    def _held_bytes(self) -> int:
        files = self.folder.glob(f"wandb/offline-run-*/run-{self.run.id}.wandb")
        return sum(file.stat().st_size for file in files)


def begin(run: TrackedRun) -> WandbRun:
    """Begin an offline run."""
    import wandb  # pyright: ignore[reportMissingImports]

    run.folder.mkdir(parents=True, exist_ok=True)
    begun = wandb.init(
        project=run.project,
        name=run.name,
        dir=str(run.folder),
        config=dict(run.settings),
        mode="offline",
        settings=wandb.Settings(
            silent=True,
            console="off",
            # They tell of the process that follows the run and of its machine, which nobody asked.
            x_disable_stats=True,
            x_disable_meta=True,
            disable_git=True,
        ),
    )
    begun.define_metric("*", step_metric="step")
    return WandbRun(begun, run.folder)
