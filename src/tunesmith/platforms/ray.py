"""The process that has a run carried out on a Ray cluster; its exit code is the run's.

`python -m tunesmith.platforms.ray FOLDER` is a driver of the cluster that the folder's recipe names
(target). It starts the recipe's ranks on the cluster's nodes and ends with them (ray_run.py). The
run folder is on a disk that all nodes have, or goes through an object store (ray_folder.py).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from tunesmith.core.errors import TunesmithError
from tunesmith.core.events import EventLog
from tunesmith.core.log import set_up_logging
from tunesmith.core.run_dir import RunDir
from tunesmith.core.run_lock import hold_run, require_free
from tunesmith.core.run_record import Run
from tunesmith.core.stopping import StoppedEarly, StopRequests
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.target import RayTarget, require_platform

log = logging.getLogger(__name__)

# Ray ends the actors of a driver that was killed, and the ranks see that within half a second.
DRIVER_IS_GONE_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; returns the run's exit code."""
    (folder,) = arguments or sys.argv[1:]
    set_up_logging()
    run_dir = RunDir.open(folder)
    try:
        require_free(run_dir, patience_s=DRIVER_IS_GONE_S)
    except TunesmithError as refused:
        log.error("%s", refused)
        return refused.exit_code
    stop = StopRequests(run_dir)
    stop.listen()
    try:
        recipe = recipe_from_resolved(run_dir.resolved_json)
        require_platform(recipe.target)
        # Ray is an extra: only now it is known to be there.
        from tunesmith.platforms.ray_run import carry_out

        # with a store this process alone writes the folder, else rank 0 holds it
        is_stored = isinstance(recipe.target, RayTarget) and recipe.target.storage is not None
        held = hold_run(run_dir) if is_stored else nullcontext()
        with held, stop.held_back():
            return carry_out(run_dir, recipe, stop)
    except StoppedEarly as request:
        return _end(run_dir, request)
    except BaseException as error:
        return _end(run_dir, error)


def _end(run_dir: RunDir, reason: BaseException) -> int:
    """Tell for a run that has no ranks how it ended; returns its exit code."""
    with EventLog(run_dir.events_jsonl) as events:
        run, state = Run(run_dir, events), run_dir.read_state()
        if state is not None:
            run.step, run.total_steps = state.step, state.total_steps
        if not isinstance(reason, StoppedEarly):
            return run.fail(reason)
        run.write_state("stopped", message=reason.reason)
        events.write("run", run.step, status="stopped", message=reason.reason)
        return reason.exit_code


if __name__ == "__main__":
    sys.exit(main())
