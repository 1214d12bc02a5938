"""Follows a run's folder and passes its numbers on; it only reads what the run writes."""

from __future__ import annotations

from collections.abc import Callable

from tunesmith.core.events import follow_events
from tunesmith.core.run_dir import RunDir, describe_status, read_json
from tunesmith.recipe.tracking import TrackerName
from tunesmith.tracking.choose import begin
from tunesmith.tracking.numbers import numbers_of, settings_of
from tunesmith.tracking.tracker import TrackedRun, Tracker

GOES_ON = ("created", "running", "not started")
Begin = Callable[[TrackerName, TrackedRun], Tracker]


def export_run(
    run_dir: RunDir,
    name: TrackerName,
    *,
    project: str,
    begin: Begin = begin,
    has_ended: Callable[[], bool] | None = None,
) -> str:
    """Pass all numbers on, until the run's end where it goes on; return what to tell.

    `has_ended` says when that is; by default the run's state does.
    """
    run = TrackedRun(
        name=run_dir.path.name,
        project=project,
        folder=run_dir.path / "tracking" / name,
        settings=settings_of(read_json(run_dir.resolved_json)["recipe"]),
    )
    tracker = begin(name, run)
    for event in follow_events(
        run_dir.events_jsonl, stop=has_ended or (lambda: not _goes_on(run_dir))
    ):
        numbers = numbers_of(event)
        if numbers is not None:
            tracker.log(numbers)
    return tracker.end(succeeded=describe_status(run_dir.read_state()) == "succeeded")


def _goes_on(run_dir: RunDir) -> bool:
    return describe_status(run_dir.read_state()) in GOES_ON
