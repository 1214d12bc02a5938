"""The trackers that a recipe names, each a process beside its run: none can fail or slow it.

    the run                          python -m tunesmith.tracking.follow
    starts it            ->          reads events.jsonl, passes the numbers on
    looks at each step   <-          has ended: why, in its log
    closes its input     ->          reads what is left, ends the tracker, ends
    waits, then ends it; after a Ctrl-C at once

A run that is killed closes the input, too.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.core.errors import TunesmithError
from tunesmith.core.run_dir import RunDir
from tunesmith.recipe.tracking import TrackerName, TrackingPart
from tunesmith.tracking.tracker import require_library

log = logging.getLogger(__name__)
Warn = Callable[[str], None]
LOOK_EVERY_S = 0.02


@dataclass(frozen=True, eq=False)
class Trackers:
    """The trackers of a run that still go on; without any, nothing is done."""

    run_dir: RunDir = field(default_factory=lambda: RunDir(Path()))
    wait_s: float = 0.0
    warn: Warn = log.warning
    going: dict[TrackerName, subprocess.Popen[bytes]] = field(
        default_factory=dict[TrackerName, subprocess.Popen[bytes]]
    )

    def look(self) -> None:
        """Tell of those that have ended before the run."""
        for name, process in list(self.going.items()):
            if process.poll() is not None:
                _close_input(self.going.pop(name))
                self._tell(name, f"has ended (exit code {process.returncode})")

    def finish(
        self,
        *,
        most_s: float = math.inf,
        nobody_waits: Callable[[], bool] = lambda: False,
    ) -> None:
        """Let them read to the end; those that have not ended after `wait_s` are ended.

        `most_s` is a limit to it, and `nobody_waits` ends it.
        """
        wait_s = min(self.wait_s, most_s)
        deadline = time.monotonic() + wait_s
        for process in self.going.values():
            _close_input(process)
        while self._is_any_going() and time.monotonic() < deadline and not nobody_waits():
            time.sleep(LOOK_EVERY_S)
        for name, process in self.going.items():
            if process.poll() is None:
                _end(process)
                why = "you did not wait for it" if nobody_waits() else "was ended"
                after = "" if nobody_waits() else f"{wait_s:g} s "
                self._tell(name, f"had not ended {after}after the run, and {why}")
            elif process.returncode:
                self._tell(name, f"has ended (exit code {process.returncode})")
        self.going.clear()

    def _is_any_going(self) -> bool:
        return any(process.poll() is None for process in self.going.values())

    def _tell(self, name: TrackerName, what: str) -> None:
        said = _last_line(log_of(self.run_dir, name))
        again = f"tunesmith track {self.run_dir.path} --to {name}"
        text = (
            f"{name} {what}: {said or 'without a word'}; the run does not need it, {again} does it"
        )
        tell(self.warn, f"{text} again")


def start_trackers(
    part: TrackingPart,
    run_dir: RunDir,
    warn: Warn,
    commands: Mapping[TrackerName, tuple[str, ...]] | None = None,
) -> Trackers:
    """Start the recipe's trackers; one that cannot be started is told.

    `commands` are started in place of the real ones.
    """
    trackers = Trackers(run_dir, part.wait_s, warn)
    for name in dict.fromkeys(part.to):
        try:
            command = (commands or {}).get(name) or _command(part, name)
            trackers.going[name] = _start(run_dir, name, (*command, str(run_dir.path)))
        except (TunesmithError, OSError) as error:
            tell(warn, f"the run goes on without {name}: {error}")
    return trackers


def tell(warn: Warn, text: str) -> None:
    """Warn; a disk that takes no word of a tracker's fails no run."""
    try:
        warn(text)
    except TunesmithError:
        log.warning("%s", text)


def log_of(run_dir: RunDir, name: TrackerName) -> Path:
    """The file with all that a tracker says."""
    return run_dir.path / "tracking" / f"{name}.log"


def _command(part: TrackingPart, name: TrackerName) -> tuple[str, ...]:
    require_library(name, where=f"recipe: tracking: {name}")
    module = (sys.executable, "-m", "tunesmith.tracking.follow")
    return (*module, name, part.project, str(part.wait_s))


def _start(run_dir: RunDir, name: TrackerName, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    file = log_of(run_dir, name)
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            process_group=0,  # a Ctrl-C at the terminal is the run's
        )


def _close_input(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(file: Path) -> str:
    with suppress(OSError):
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
