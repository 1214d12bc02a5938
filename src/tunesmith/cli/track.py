"""`tunesmith track`: a run's numbers in a tracker, from outside: no tracker can fail or slow it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tunesmith.cli import output
from tunesmith.cli.runs import open_run
from tunesmith.core.errors import Fault, RunError, TunesmithError
from tunesmith.recipe.tracking import TrackerName
from tunesmith.tracking.export import export_run
from tunesmith.tracking.tracker import require_library


def track(
    run: Path,
    /,
    *,
    to: Annotated[TrackerName, Parameter(name="--to")],
    project: str = "tunesmith",
) -> int:
    """Show a run's numbers in a tracker; one that goes on is followed to its end.

    Parameters
    ----------
    run:
        The run's folder, or its name in ./runs.
    to:
        tensorboard, mlflow (MLFLOW_TRACKING_URI or a store in the run folder), wandb (offline) or
        trackio. Each is an extra: pip install 'tunesmith[NAME]'.
    project:
        The project or experiment that the run is shown in.
    """
    run_dir = open_run(run)
    require_library(to)
    try:
        told = export_run(run_dir, to, project=project)
    except KeyboardInterrupt:
        output.say("the run is as it was; only the export has ended")
        return 130
    except TunesmithError:
        raise
    except Exception as error:
        found = f"{to} failed: {type(error).__name__}: {error}"
        fix = "the run is as it was; see the tracker's own messages, and export it again"
        raise RunError(Fault(found=found, where=str(run_dir.path), fix=fix)) from error
    output.say(told)
    return 0
