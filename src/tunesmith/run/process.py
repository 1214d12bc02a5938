"""The process of a run: `python -m tunesmith.run FOLDER`.

It reads the folder's `resolved.json`, writes everything else of the run folder, and ends with 0
(done), 2 (a fault of the user's), 3 (failed), 75 or 130 (stopped early). Started again on the same
folder, it goes on from the newest checkpoint.

A recipe whose strategy asks for several processes is carried out by as many of these, its ranks,
each with its number in its environment (core/rank_place.py). Rank 0 writes the run folder and
evaluates; the others have a folder of their own in it, and every rank makes the same steps.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from tunesmith.core import hardware
from tunesmith.core.allocator import NEVER, SMALL_BLOCK, keep_freed_memory
from tunesmith.core.errors import TunesmithError
from tunesmith.core.events import EventLog
from tunesmith.core.log import set_up_logging
from tunesmith.core.rank_failures import cause_of
from tunesmith.core.rank_place import ALONE, RankPlace, rank_place
from tunesmith.core.run_dir import RunDir, clear_half_written
from tunesmith.core.run_lock import hold_run
from tunesmith.core.run_record import Run
from tunesmith.core.stopping import StoppedEarly, StopRequests
from tunesmith.models.device import choose_device
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.processes import num_processes
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import spreads_weights
from tunesmith.recipe.target import RayTarget
from tunesmith.run.carry_out import carry_out
from tunesmith.run.job import Job
from tunesmith.tracking.beside import Trackers, start_trackers
from tunesmith.training.strategies.offload import offload_files
from tunesmith.training.strategies.ranks import ONE_RANK, leave
from tunesmith.training.strategies.start import make_strategy, meet, require_place

log = logging.getLogger(__name__)

# A launcher ends what is left of a run a little later than this.
RANKS_WAIT_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The process of a run, or of one rank of it; returns its exit code."""
    (folder,) = arguments or sys.argv[1:]
    set_up_logging()
    run_dir = RunDir.open(folder)
    try:
        place = rank_place()
        recipe = recipe_from_resolved(run_dir.resolved_json)
    except TunesmithError as error:
        with EventLog(run_dir.events_jsonl) as events:
            return Run(run_dir, events).fail(error)
    if place is None and (starter := starter_of(recipe)) is not None:
        os.execv(sys.executable, [sys.executable, "-m", starter, str(run_dir.path)])
    keep_freed_memory(SMALL_BLOCK if spreads_weights(recipe.strategy) else NEVER)
    try:
        with nullcontext() if place is not None and place.rank else hold_run(run_dir):
            return run_rank(run_dir, place or ALONE)
    except TunesmithError as error:  # the folder is another process's, or takes no word
        log.error("%s", error)
        return error.exit_code


def starter_of(recipe: Recipe) -> str | None:
    """Return the module that starts the recipe's ranks; None where this process is all of it."""
    if isinstance(recipe.target, RayTarget):
        return "tunesmith.platforms.ray"
    return "tunesmith.launch" if num_processes(recipe) > 1 else None


def run_rank(run_dir: RunDir, place: RankPlace) -> int:
    """Carry out the recipe as one of its ranks; returns the exit code."""
    own = folder_of_rank(run_dir, place.rank)
    if place.rank:
        send_output_to(own.log)
    torch.set_num_threads(place.cores or max(1, hardware.cpu_count() // place.local_size))
    stop, trackers = StopRequests(run_dir), Trackers()
    with EventLog(own.events_jsonl) as events:
        run, ranks = Run(own, events), ONE_RANK
        try:
            stop.listen()
            recipe = recipe_from_resolved(run_dir.resolved_json)
            require_place(recipe, place)
            device = choose_device(recipe.model, place.local_rank)
            ranks = meet(recipe, place, run_dir, run.fail_by, stop.is_asked, device)
            if ranks.is_main:
                clear_half_written(own.path)
                trackers = start_trackers(recipe.tracking, own, run.warn)
            strategy = make_strategy(recipe, ranks, run_dir.path)
            with offload_files(recipe.strategy, run_dir.path, place):
                carry_out(recipe, Job(run, run_dir, strategy, stop, trackers, device))
                leave(ranks)
        except StoppedEarly as request:
            run.write_state("stopped", message=request.reason)
            events.write("run", run.step, status="stopped", message=request.reason)
            leave(ranks)
            return request.exit_code
        except BaseException as error:
            with stop.held_back():  # a launcher ends what is left of the ranks
                return run.fail(cause_of(error, run_dir, rank=place.rank, size=place.size))
        finally:
            with stop.after_the_run() as nobody_waits:
                most_s = RANKS_WAIT_S if place.size > 1 else math.inf
                trackers.finish(most_s=most_s, nobody_waits=nobody_waits)
    return 0


def folder_of_rank(run_dir: RunDir, rank: int) -> RunDir:
    """Return a rank's own folder, without what the start before has told there.

    An earlier failure would be taken for one of now (core/rank_failures.py). The log goes on.
    """
    own = run_dir.of_rank(rank)
    if rank:
        own.path.mkdir(parents=True, exist_ok=True)
        own.events_jsonl.unlink(missing_ok=True)
    return own


def send_output_to(log: Path) -> None:
    """Append all that this process says to its own log."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
