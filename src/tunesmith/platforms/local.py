"""A run as a process of this machine: start it, pass signals on to it, wait for its end.

The process has a session of its own, so a Ctrl-C at the terminal reaches only us and we decide what
becomes of it, and a closed terminal does not end the run. Its output goes to a log file.

    first Ctrl-C   ->  SIGINT    the run finishes its step, saves, exits 130
    second Ctrl-C  ->  SIGKILL   at once; the last checkpoint stays
    SIGTERM        ->  SIGTERM   as the first Ctrl-C, but the run exits 75
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from tunesmith.core.errors import Fault, MachineError
from tunesmith.core.run_dir import disk_error
from tunesmith.core.threads import with_short_spins

StopRequest = Literal["interrupt", "kill", "terminate"]


@dataclass(eq=False)
class LocalProcess:
    """A started process, and what it was asked to do and nobody has been told of yet."""

    popen: subprocess.Popen[bytes]
    was_interrupted: bool = False
    untold: list[StopRequest] = field(default_factory=list[StopRequest])

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.popen.pid

    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.popen.poll() is not None

    def wait(self) -> int:
        """Wait for the end; the exit code, negative for the signal that ended it."""
        return self.popen.wait()

    def interrupt(self) -> None:
        """Ask it to stop after its step; the second time end it at once."""
        if self.was_interrupted:
            self.untold.append("kill")
            self.kill()
            return
        self.was_interrupted = True
        self.untold.append("interrupt")
        self._signal(signal.SIGINT)

    def terminate(self) -> None:
        """Ask it to stop after its step, to be resumed later."""
        self.untold.append("terminate")
        self._signal(signal.SIGTERM)

    def take_requests(self) -> list[StopRequest]:
        """What it was asked since the last call."""
        taken, self.untold = self.untold, []
        return taken

    def kill(self) -> None:
        """End it and all its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # to the process only: its children (compilers, workers) are its own to stop
        with suppress(ProcessLookupError):
            self.popen.send_signal(number)


def start(argv: Sequence[str], *, log: Path) -> LocalProcess:
    """Start `argv` in a session of its own; its output is appended to `log`."""
    try:
        output = log.open("ab")
    except OSError as error:
        raise disk_error(log, error) from error
    with output:
        try:
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=with_short_spins(),
            )
        except OSError as error:
            found = f"the run's process cannot be started: {(error.strerror or '').lower()}"
            fix = "check that this Python is complete: tunesmith doctor"
            raise MachineError(Fault(found=found, where=argv[0], fix=fix)) from error
    return LocalProcess(popen)


@contextmanager
def passed_on_signals(process: LocalProcess) -> Generator[None]:
    """While inside, pass Ctrl-C and SIGTERM on to `process`.

    Nothing is printed from here: a signal may arrive in the middle of another print.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGINT:
            process.interrupt()
        else:
            process.terminate()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
