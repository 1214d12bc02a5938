"""Weights & Biases, offline: files in RUN/tracking/wandb, which `wandb sync` uploads when asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.tracking.numbers import Numbers
from tunesmith.tracking.tracker import TrackedRun


@dataclass(frozen=True, eq=False)
class WandbRun:
    """An offline run. Steps are numbers of their own: wandb's own step may only grow."""

    run: Any
    folder: Path

    def log(self, numbers: Numbers) -> None:
        """Log all numbers with their step."""
        self.run.log({**numbers.values, "step": numbers.step})

    def end(self, *, succeeded: bool) -> str:
        """Close the files."""
        self.run.finish(exit_code=0 if succeeded else 1)
        return f"upload it with: wandb sync {self.folder}/wandb/offline-run-*"


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
