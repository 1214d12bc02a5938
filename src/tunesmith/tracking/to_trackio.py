"""Trackio: a run in the library's own local store, which `trackio show` reads.

A full disk is a warning to it, no error: what the store holds is counted at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunesmith.core.errors import Fault, RunError
from tunesmith.tracking.numbers import Numbers
from tunesmith.tracking.tracker import TrackedRun


@dataclass(eq=False)
class TrackioRun:
    """A run in the local store; `logged` counts what it was told."""

    run: Any
    project: str
    logged: int = 0

    def log(self, numbers: Numbers) -> None:
        """Log all numbers at their step."""
        self.run.log(dict(numbers.values), step=numbers.step)
        self.logged += 1

    def end(self, *, succeeded: bool) -> str:
        """Close the run; trackio knows no failed one.

        Raises:
            RunError: the store does not hold all that it was told.
        """
        del succeeded
        self.run.finish()
        held = _count_of(self.project, self.run.id)
        if held < self.logged:
            raise _not_all(held, self.logged)
        return f"see it with: trackio show --project {self.project}"


def begin(run: TrackedRun) -> TrackioRun:
    """Begin a run."""
    import trackio  # pyright: ignore[reportMissingImports]

    begun = trackio.init(
        project=run.project,
        name=run.name,
        config=dict(run.settings),
        embed=False,
        auto_log_cpu=False,  # of the process that follows the run
        auto_log_gpu=False,
    )
    return TrackioRun(begun, run.project)


def _count_of(project: str, run_id: str) -> int:
    from trackio.sqlite_storage import SQLiteStorage  # pyright: ignore[reportMissingImports]

    return int(SQLiteStorage.get_log_count(project, run_id=run_id))


def _not_all(held: int, logged: int) -> RunError:
    from trackio.utils import TRACKIO_DIR  # pyright: ignore[reportMissingImports]

    fix = "see what trackio said above; free space there, or set TRACKIO_DIR"
    found = f"the store holds {held} of the {logged} steps and evaluations that it was told"
    return RunError(Fault(found=found, where=str(TRACKIO_DIR), fix=fix))
