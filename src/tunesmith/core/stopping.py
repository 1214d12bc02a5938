"""How a run is asked to stop, and when it does.

SIGINT (Ctrl-C), SIGTERM and the run folder's `control` file all ask for the same: finish the step,
save, end. Before and after the steps there is nothing to finish, and the run ends where it is. A
second SIGINT ends the process at once. Once the run has ended a signal only says that nobody wants
to wait for what follows it, and changes no exit code.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from tunesmith.core.run_dir import RunDir

INTERRUPTED = 130
PAUSED = 75


class StoppedEarly(BaseException):
    """Raised where a run ends because it was asked to: no fault, so not an Exception."""

    def __init__(self, exit_code: int, reason: str) -> None:
        self.exit_code = exit_code
        self.reason = reason
        super().__init__(reason)


class StopRequests:
    """Collects requests; `check` raises StoppedEarly when there is one."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._asked: StoppedEarly | None = None
        self._held_back = False
        self._is_over = False
        self._nobody_waits = False

    def listen(self) -> None:
        """Take SIGINT and SIGTERM from now on."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def is_asked(self) -> bool:
        """Whether a stop was asked for."""
        word = self._run_dir.read_control()
        if self._asked is None and word is not None:
            self._asked = StoppedEarly(PAUSED, f"asked to {word} by the control file")
        return self._asked is not None

    def asked_code(self) -> int | None:
        """The exit code of the stop that was asked for, if any."""
        return self._asked.exit_code if self.is_asked() and self._asked else None

    def ask(self, exit_code: int, reason: str) -> None:
        """Ask for a stop, as another process was asked for it."""
        if self._asked is None:
            self._asked = StoppedEarly(exit_code, reason)

    def check(self) -> None:
        """Raise StoppedEarly if a stop was asked for."""
        if self.is_asked():
            assert self._asked is not None
            raise self._asked

    @contextmanager
    def held_back(self) -> Generator[None]:
        """Within the block a signal is only noted; `check` says so."""
        self._held_back = True
        try:
            yield
        finally:
            self._held_back = False

    @contextmanager
    def after_the_run(self) -> Generator[Callable[[], bool]]:
        """Within the block a signal asks for nothing; what is given says whether one came."""
        self._is_over = True
        yield lambda: self._nobody_waits

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._is_over:
            self._nobody_waits = True
            return
        if number == signal.SIGINT:
            if self._asked is not None:
                os._exit(INTERRUPTED)
            self._asked = StoppedEarly(INTERRUPTED, "interrupted by Ctrl-C")
        if self._asked is None:
            self._asked = StoppedEarly(PAUSED, "asked to end by SIGTERM")
        if not self._held_back:
            raise self._asked
