"""A run's own record: where it stands, told to its folder."""

from __future__ import annotations

import logging
import os
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass

from tunesmith.core.errors import TunesmithError
from tunesmith.core.events import EventLog
from tunesmith.core.failures import as_run_error
from tunesmith.core.run_dir import RunDir, RunState, RunStatus

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0


@dataclass
class Run:
    """Where a run stands; of a run of several ranks each has a record of its own."""

    run_dir: RunDir
    events: EventLog
    step: int = 0
    total_steps: int | None = None
    _last_heartbeat: float = 0.0

    def write_state(self, status: RunStatus, *, message: str = "", error_code: str = "") -> None:
        """Replace state.json."""
        self._last_heartbeat = time.time()
        state = RunState(
            status=status,
            pid=os.getpid(),
            heartbeat=self._last_heartbeat,
            step=self.step,
            total_steps=self.total_steps,
            message=message,
            error_code=error_code,
        )
        self.run_dir.write_state(state)

    def beat(self) -> None:
        """Show a sign of life, at most once a second."""
        if time.time() - self._last_heartbeat >= HEARTBEAT_S:
            self.write_state("running")

    def warn(self, message: str) -> None:
        """Tell people of something that does not end the run."""
        self.events.write("warning", self.step, message=message)

    def fail(self, error: BaseException) -> int:
        """Write down why the run failed; returns the exit code."""
        known = as_run_error(error, self.run_dir)
        log.error("%s", "".join(traceback.format_exception(error)))
        self.fail_by(known)
        return known.exit_code

    def fail_by(self, known: TunesmithError) -> None:
        """Write down that the run failed by a known error."""
        faults = [asdict(fault) for fault in known.faults]
        with suppress(TunesmithError, OSError):  # the disk may be what failed
            self.events.write(
                "error", self.step, code=known.code, exit_code=known.exit_code, faults=faults
            )
        with suppress(TunesmithError, OSError):
            self.write_state("failed", message=known.faults[0].found, error_code=known.code)
