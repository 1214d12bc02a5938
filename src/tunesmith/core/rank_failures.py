"""Which rank's failure ended a run of several: one that fails breaks the others' connections.

Each rank tells its own failure in its own events; the launcher tells that of one which was killed.
Rank 0 waits for such a word before it tells the run folder that a connection was broken. A disk
that takes no word is the likely reason that there is none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from tunesmith.core.errors import Fault, RunError, TunesmithError, UserError
from tunesmith.core.events import Event, EventLog, read_events
from tunesmith.core.run_dir import RunDir, refusal_of_disk
from tunesmith.core.stopping import INTERRUPTED, PAUSED

log = logging.getLogger(__name__)

BROKEN = "rank_gone"
DIED = "rank_died"
WAIT_S = 6.0
# In lower case: what gloo, NCCL and torch's store say of a peer that is gone.
WORDS = ("gloo", "nccl", "connection", "peer", "socket", "broken pipe", "recvbytes")


def is_broken_connection(error: BaseException) -> bool:
    """Whether an error is that of an exchange whose other side is gone."""
    if isinstance(error, TunesmithError) or not isinstance(error, (RuntimeError, OSError)):
        return False
    text = f"{type(error).__module__}.{type(error).__name__} {error}".lower()
    return any(word in text for word in WORDS)


def cause_of(error: BaseException, run_dir: RunDir, *, rank: int, size: int) -> BaseException:
    """Return what ended the run: this rank's own error, or that of the rank that was first.

    `run_dir` is the run's own folder.
    """
    if size == 1 or not is_broken_connection(error):
        return error
    if rank == 0:
        known = _wait_for_word(run_dir, size)
        if known is not None and known.code != DIED:
            return known
        silenced = refusal_of_disk(run_dir.ranks)
        if silenced is not None:
            return silenced
        if known is not None:
            return known
    fault = Fault(
        found="another rank has ended without a word, and the connection to it is broken",
        where=f"{run_dir.ranks}: the log of each rank",
        fix="see the ranks' logs; go on from the last checkpoint with --resume",
    )
    return RunError(fault, code=BROKEN)


def failure_of(run_dir: RunDir) -> Event | None:
    """Return the error that a rank told in its own folder; not that others were gone."""
    errors = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]
    return next((event for event in reversed(errors) if event.get("code") != BROKEN), None)


def tell_end(run_dir: RunDir, rank: int, exit_code: int) -> None:
    """See to it that a rank's end has a reason in its folder."""
    if exit_code in (0, PAUSED, INTERRUPTED) or failure_of(run_dir.of_rank(rank)) is not None:
        return
    if exit_code < 0 or rank != 0:
        tell_death(run_dir, rank, exit_code)


def run_exit_code(codes: Sequence[int]) -> int:
    """Return rank 0's, where it ended by itself: it knows the reason; else whoever's failed."""
    first = codes[0] or next((code for code in codes if code), 0)
    return first if first >= 0 else TunesmithError.exit_code


def tell_death(run_dir: RunDir, rank: int, exit_code: int) -> None:
    """Tell for a rank that has ended without saying why, where the disk takes a word."""
    ended = f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"
    reason = " (killed: often the system, when memory runs out)" if exit_code == -9 else ""
    own = run_dir.of_rank(rank)
    fault = {
        "found": f"rank {rank} ended {ended}{reason}",
        "where": str(own.log),
        "fix": "see the log; go on from the last checkpoint with --resume",
    }
    try:
        own.path.mkdir(parents=True, exist_ok=True)
        with EventLog(own.events_jsonl) as events:
            events.write("error", None, code=DIED, exit_code=3, faults=[fault])
    except (TunesmithError, OSError) as error:
        log.error("%s; and it could not be told: %s", fault["found"], error)


def _wait_for_word(run_dir: RunDir, size: int) -> TunesmithError | None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for rank in range(1, size):
            event = failure_of(run_dir.of_rank(rank))
            if event is not None:
                return _as_error(event, rank)
        time.sleep(0.1)
    return None


def _as_error(event: Event, rank: int) -> TunesmithError:
    faults = [
        Fault(
            found=str(fault["found"]),
            where=f"rank {rank}: {fault['where']}",
            fix=str(fault["fix"]),
        )
        for fault in event["faults"]
    ]
    kind = UserError if event.get("exit_code") == UserError.exit_code else RunError
    return kind(faults, code=str(event["code"]))
