"""One tracker of a run's recipe, in a process of its own (beside.py).

`python -m tunesmith.tracking.follow TRACKER PROJECT WAIT_S FOLDER` passes the run's numbers on
until its standard input is closed: the run has ended then, or was killed. From there on it has
WAIT_S seconds.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import cast

from tunesmith.core.log import set_up_logging
from tunesmith.core.run_dir import RunDir
from tunesmith.recipe.tracking import TrackerName
from tunesmith.tracking.export import export_run

log = logging.getLogger(__name__)

# The run ends a process that is late, unless it was killed itself.
LATER_THAN_THE_RUN_S = 2.0
LEAST_URGENT = 19


def main(arguments: Sequence[str] | None = None) -> int:
    """The process; returns its exit code."""
    name, project, wait_s, folder = arguments or sys.argv[1:]
    set_up_logging()
    os.nice(LEAST_URGENT)
    for number in (signal.SIGINT, signal.SIGTERM):  # the run's end is ours, and it is told
        signal.signal(number, signal.SIG_IGN)
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended, float(wait_s)), daemon=True).start()
    try:
        told = export_run(
            RunDir.open(folder),
            cast(TrackerName, name),
            project=project,
            has_ended=ended.is_set,
        )
    except Exception as error:
        log.exception("the export has failed")
        said = " ".join(str(error).split())  # the last line is what the run tells
        log.error("%s: %s", type(error).__name__, said)
        return 1
    log.info("%s", told)
    return 0


def _wait_for_end(ended: threading.Event, wait_s: float) -> None:
    sys.stdin.buffer.read()
    ended.set()
    time.sleep(wait_s + LATER_THAN_THE_RUN_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
