"""From a tracker's name to a run begun in it; its library is loaded then."""

from __future__ import annotations

from typing import assert_never

from tunesmith.recipe.tracking import TrackerName
from tunesmith.tracking.tracker import TrackedRun, Tracker


def begin(name: TrackerName, run: TrackedRun) -> Tracker:
    """Begin a run in the tracker."""
    match name:
        case "tensorboard":
            from tunesmith.tracking import to_tensorboard

            return to_tensorboard.begin(run)
        case "mlflow":
            from tunesmith.tracking import to_mlflow

            return to_mlflow.begin(run)
        case "wandb":
            from tunesmith.tracking import to_wandb

            return to_wandb.begin(run)
        case "trackio":
            from tunesmith.tracking import to_trackio

            return to_trackio.begin(run)
        case _:
            assert_never(name)
