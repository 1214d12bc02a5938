"""What a tracker is asked for, and the table of those that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from tunesmith.core.errors import Fault, MachineError
from tunesmith.recipe.tracking import TrackerName
from tunesmith.tracking.numbers import Numbers

# What each is imported as; the extra has the tracker's own name.
LIBRARIES: Mapping[TrackerName, str] = {
    "tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "trackio": "trackio",
}


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run at its beginning; `folder` is for files that it keeps."""

    name: str
    project: str
    folder: Path
    settings: Mapping[str, str]


class Tracker(Protocol):
    """One run in one tracker."""

    def log(self, numbers: Numbers) -> None:
        """Show numbers at their step."""
        ...

    def end(self, *, succeeded: bool) -> str:
        """Close it; return what to tell about where it is."""
        ...


def require_library(name: TrackerName, *, where: str | None = None) -> None:
    """Raise MachineError where the tracker's library is not installed."""
    if find_spec(LIBRARIES[name]) is None:
        fix = f"pip install 'tunesmith[{name}]'"
        place = where or f"--to {name}"
        raise MachineError(Fault(found=f"{name} is not installed", where=place, fix=fix))
