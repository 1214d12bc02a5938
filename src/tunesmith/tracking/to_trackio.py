"""Trackio: a run in the library's own local store, which `trackio show` reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith.tracking.numbers import Numbers
from tunesmith.tracking.tracker import TrackedRun


@dataclass(frozen=True, eq=False)
class TrackioRun:
    """A run in the local store."""

    run: Any
    project: str

    def log(self, numbers: Numbers) -> None:
        """Log all numbers at their step."""
        self.run.log(dict(numbers.values), step=numbers.step)

    def end(self, *, succeeded: bool) -> str:
        """Close the run; trackio knows no failed one."""
        del succeeded
        self.run.finish()
        return f"see it with: trackio show --project {self.project}"


def begin(run: TrackedRun) -> TrackioRun:
    """Begin a run."""
    import trackio  # pyright: ignore[reportMissingImports]

    begun = trackio.init(project=run.project, name=run.name, config=dict(run.settings), embed=False)
    return TrackioRun(begun, run.project)
