"""Starts a prepared run, shows its progress, passes on what the user asks, and says how it ended.

The run is a process of its own that speaks through its folder: events while it goes, a state and a
result at its end. A process that is gone without either has died, and its log's tail is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.cli import output
from tunesmith.cli.program import suggest
from tunesmith.cli.progress import Pace, event_text, live_text, plain_text
from tunesmith.core.errors import Fault, RunError, TunesmithError, UserError
from tunesmith.core.events import Event, follow_events
from tunesmith.core.hardware import free_disk_bytes
from tunesmith.core.rank_place import rank_place
from tunesmith.core.run_dir import RunDir, describe_status, refusal_of_disk
from tunesmith.core.run_lock import require_free
from tunesmith.platforms.command import run_command
from tunesmith.platforms.local import LocalProcess, StopRequest, passed_on_signals, start
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.processes import num_processes
from tunesmith.recipe.target import RayTarget

PAUSED = 75
INTERRUPTED = 130
LOG_TAIL_LINES = 15
ROOM_FOR_A_REASON_BYTES = 16_384
ANSWERS: dict[StopRequest, str] = {
    "interrupt": "stopping after this step, then saving; Ctrl-C once more stops at once",
    "kill": "stopping at once",
    "terminate": "asked to end: stopping after this step, then saving",
}
ENDED = ("succeeded", "failed")
NOT_WAITING = "the run itself has ended; not waiting for its trackers"


@dataclass(frozen=True)
class Ending:
    """How a run's process ended, when it did not fail."""

    status: Literal["succeeded", "stopped"]
    exit_code: int


def carry_out(run_dir: RunDir, *, as_json: bool, command: Sequence[str] | None = None) -> Ending:
    """Run the folder's recipe to its end; raises the run's own error when it failed."""
    argv = command or _command(run_dir)
    seen = run_dir.events_jsonl.stat().st_size if run_dir.events_jsonl.exists() else 0
    process = start(argv, log=run_dir.log)
    with passed_on_signals(process):
        error = _watch(run_dir, process, seen, as_json=as_json)
        code = process.wait()
    return _ending(run_dir, code, error, process)


def _command(run_dir: RunDir) -> Sequence[str]:
    """One process, or what starts several; under a launcher this is one of its ranks."""
    recipe = recipe_from_resolved(run_dir.resolved_json)
    if rank_place():
        return run_command(run_dir.path, python=sys.executable)
    return run_command(
        run_dir.path,
        python=sys.executable,
        processes=num_processes(recipe),
        on_ray=isinstance(recipe.target, RayTarget),
    )


def show_events(
    run_dir: RunDir, progress: output.Progress, *, stop: Callable[[], bool], start: int = 0
) -> Event | None:
    """Show events until `stop()`; return the last error among them."""
    pace, error = Pace(), None
    for event in follow_events(run_dir.events_jsonl, stop=stop, start=start):
        if event["type"] == "step":
            pace.add(event)
            left = pace.seconds_left(event)
            progress.step(live_text(event, left), plain_text(event, left))
            continue
        if event["type"] == "error":
            error = event
        text = event_text(event)
        if text:
            progress.line(text, style="yellow" if event["type"] == "warning" else "")
    return error


def _watch(run_dir: RunDir, process: LocalProcess, seen: int, *, as_json: bool) -> Event | None:
    """Show the run's events while it goes; a display that fails does not leave it behind."""
    try:
        with output.progress(as_json=as_json) as progress:
            return show_events(
                run_dir, progress, stop=lambda: _has_ended(run_dir, process, progress), start=seen
            )
    except BrokenPipeError:  # our reader has gone; the run goes on to its end
        output.forget_standard_output()
        return None
    except BaseException:
        process.terminate()
        raise


def _has_ended(run_dir: RunDir, process: LocalProcess, progress: output.Progress) -> bool:
    """Ask the process, and say what it was asked to do since the last time."""
    for request in process.take_requests():
        answer = NOT_WAITING if _status(run_dir) in ENDED else ANSWERS[request]
        progress.line(answer, style="yellow")
    return process.has_ended()


def _ending(run_dir: RunDir, code: int, error: Event | None, process: LocalProcess) -> Ending:
    killed_after_its_end = code < 0 and _status(run_dir) == "succeeded"
    if code == 0 or killed_after_its_end:  # while it waited for a tracker
        return Ending("succeeded", 0)
    if code in (PAUSED, INTERRUPTED):
        return Ending("stopped", code)
    if error is not None:
        raise _as_raised(error)
    if (
        process.was_interrupted
    ):  # ended at once by the second Ctrl-C, or by the first before it was up
        return Ending("stopped", INTERRUPTED)
    if code == UserError.exit_code:
        require_free(run_dir)
    raise _died(run_dir, code)


def _status(run_dir: RunDir) -> str:
    return describe_status(run_dir.read_state())


def _as_raised(event: Event) -> TunesmithError:
    """The error that the run wrote down before it ended."""
    faults = [
        Fault(found=str(fault["found"]), where=str(fault["where"]), fix=str(fault["fix"]))
        for fault in event.get("faults") or ()
    ]
    kind = UserError if event.get("exit_code") == UserError.exit_code else RunError
    if not faults:
        found = str(event.get("message") or "the run failed without saying why")
        faults = [Fault(found=found, where="the run", fix="see log.txt in the run folder")]
    return kind(faults, code=str(event.get("code") or ""))


def _died(run_dir: RunDir, code: int) -> RunError:
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    reason = " (killed: often the system, when memory runs out)" if code == -9 else ""
    found = f"the run's process ended {how}{reason}, without a result"
    free = free_disk_bytes(run_dir.path)
    if code >= 0 and free < ROOM_FOR_A_REASON_BYTES:
        found += f": the disk is full, {free:,} bytes are free, and its reason could not be written"
        fix = "free some space, then go on from the last checkpoint with: "
        fault = Fault(found=found, where=str(run_dir.path), fix=fix + resume_command(run_dir))
        return RunError(fault, code="no_space")
    if code >= 0 and (refusal := refusal_of_disk(run_dir.path)) is not None:
        (fault,) = refusal.faults
        found += f": {fault.found}, and its reason could not be written"
        fix = f"{fault.fix}; then go on from the last checkpoint with: {resume_command(run_dir)}"
        return RunError(Fault(found=found, where=fault.where, fix=fix), code=refusal.code)
    tail = log_tail(run_dir.log)
    if tail:
        found += "\nthe end of its log:\n" + tail
    fix = "see the log; go on from the last checkpoint with: " + resume_command(run_dir)
    if code == -9:
        fix = "lower training.micro_batch_tokens, or free memory; " + fix
    return RunError(Fault(found=found, where=str(run_dir.log), fix=fix), code="run_died")


def log_tail(path: Path) -> str:
    """The last lines of a log."""
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])


def resume_command(run_dir: RunDir) -> str:
    """The command that goes on with a run."""
    return suggest("train --resume --run-dir", run_dir.path)
