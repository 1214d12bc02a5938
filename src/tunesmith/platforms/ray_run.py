"""Carries out a run on a Ray cluster: room for all ranks at once, their start, their end.

A driver of the cluster does this, which holds an actor for each rank.

    SIGINT, SIGTERM, control      go to every rank
    a rank has failed             the others have seconds to say so and to end, then are ended
    an actor or its node is lost  the others are ended; the run goes on from its last checkpoint
                                  with as many ranks as what is left can hold
    this process is gone          Ray ends the actors, and the ranks see it and end
"""

from __future__ import annotations

import logging
import shutil
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import tunesmith
from tunesmith.core.errors import Fault, MachineError, RunError
from tunesmith.core.events import EventLog
from tunesmith.core.rank_failures import run_exit_code, tell_end
from tunesmith.core.run_dir import RunDir
from tunesmith.core.stopping import INTERRUPTED, StopRequests
from tunesmith.platforms.places import Seat, variables
from tunesmith.platforms.rank_process import NodeFacts
from tunesmith.platforms.ray_cluster import (
    Lost,
    LostRanks,
    RankActor,
    Room,
    answers,
    connected,
    end_actors,
    finished,
    free,
    loss_of,
    lost_among,
    nodes,
)
from tunesmith.platforms.ray_folder import Folder, SharedFolder, stored_folder
from tunesmith.platforms.room import (
    Share,
    count_fitting,
    count_processes,
    no_room,
    share_of,
    usable,
)
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.target import RayTarget

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2
# Ranks that are left have so long to end by themselves once one has failed.
GRACE_S = 15.0
# Ray finds a silent node dead after about half a minute.
LOSS_KNOWN_WITHIN_S = 60.0
ENDED_WITHIN_S = 10.0
# The folder `ranks` of a start that has lost some, by its number.
LEFT_BEHIND = "ranks-lost-"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of the cluster: at its address so many ranks of a share each."""

    address: str
    processes: int
    share: Share
    wait_s: float


def carry_out(run_dir: RunDir, recipe: Recipe, stop: StopRequests) -> int:
    """Carry out the recipe, going on where ranks were lost; returns the exit code.

    Raises:
        MachineError: the cluster is not there, has no room, or its nodes lack something.
        RunError: ranks were lost more often than the recipe allows.
        StoppedEarly: the run was asked to stop while it had no ranks.
    """
    target = recipe.target
    assert isinstance(target, RayTarget)
    stop.check()
    with connected(target.address) as address:
        stop.listen()  # Ray has taken the signals
        there = usable(nodes(), recipe.model)
        processes = count_processes(recipe.strategy, there)
        share = share_of(target.cores, processes, there)
        wanted = Wanted(address=address, processes=processes, share=share, wait_s=target.wait_s)
        folder = _folder(run_dir, recipe, target, stop)
        restarts = 0
        while True:
            ending = _attempt(run_dir, folder, wanted, stop, restarts, target.restarts)
            if isinstance(ending, int):
                return ending
            _tell(run_dir, "warning", message=f"lost: {ending}")
            stop.check()
            if restarts == target.restarts:
                raise _lost_too_often(run_dir, ending, restarts)
            restarts += 1
            folder.wait_until_free()


def _folder(run_dir: RunDir, recipe: Recipe, target: RayTarget, stop: StopRequests) -> Folder:
    """How the ranks have the run's folder: on a disk of all nodes, or through an object store."""
    if target.storage is None:
        return SharedFolder(run_dir)
    tell = partial(_tell, run_dir)
    return stored_folder(run_dir, recipe, target.storage, target.storage_wait_s, stop, tell)


def _attempt(
    run_dir: RunDir, folder: Folder, wanted: Wanted, stop: StopRequests, restarts: int, most: int
) -> int | LostRanks:
    """Run all ranks once, from the newest checkpoint on."""
    make_ranks_folder(run_dir, restarts)
    with _room(run_dir, wanted, stop, is_restart=restarts > 0) as room:
        if restarts:
            ranks = f"{room.size} of {wanted.processes} ranks"
            _tell(
                run_dir,
                "restart",
                message=f"going on {_from_where(run_dir)} with {ranks} (restart {restarts} of "
                f"{most})",
                ranks=room.size,
                restart=restarts,
            )
        folder.begin()
        actors = room.actors(folder.actor)
        try:
            lost = _start_ranks(run_dir, folder, actors, wanted, stop)
            ending = lost or follow(run_dir, folder, actors, stop)
            folder.end(actors, ending)
            return ending
        finally:
            end_actors(actors, within_s=ENDED_WITHIN_S)


@contextmanager
def _room(
    run_dir: RunDir, wanted: Wanted, stop: StopRequests, *, is_restart: bool
) -> Generator[Room]:
    """Have room for all ranks; on a restart for as many as what is left can hold."""
    started = time.monotonic()
    room = Room(wanted.share, wanted.processes)
    is_told = False
    try:
        while not room.is_there(within_s=1):
            stop.check()
            fitting = count_fitting(wanted.share, nodes())
            if is_restart and 0 < fitting < room.size:  # the loss of a node is known only now
                room.release()
                room = Room(wanted.share, fitting)
                continue
            waited = time.monotonic() - started
            if waited > wanted.wait_s:
                raise no_room(
                    wanted.share,
                    room.size,
                    nodes(),
                    free=free(),
                    address=wanted.address,
                    waited_s=waited,
                )
            if not is_told:
                is_told = True
                text = f"waiting up to {wanted.wait_s:.0f} s for room on the cluster"
                _tell(run_dir, "note", message=text)
        yield room
    finally:
        room.release()


def _start_ranks(
    run_dir: RunDir,
    folder: Folder,
    actors: Sequence[RankActor],
    wanted: Wanted,
    stop: StopRequests,
) -> LostRanks | None:
    """Look at the nodes, then start every rank; returns those whose actor is gone already."""
    mark = run_dir.ranks / "mark"
    mark.touch()
    told = answers([actor.handle.describe.remote("ranks/mark") for actor in actors], stop.check)
    if lost := lost_among(told, actors):
        return lost
    facts = cast("list[NodeFacts]", told)
    require_fit(run_dir, actors, facts)
    mark.unlink()
    if lost := folder.bring(actors):
        return lost
    seats = [
        Seat(node=actor.node, address=actor.address, devices=fact.devices, port=fact.port)
        for actor, fact in zip(actors, facts, strict=True)
    ]
    starts = [
        actor.handle.start.remote(rank, place, actor.address)
        for rank, (actor, place) in enumerate(
            zip(actors, variables(seats, wanted.share.cores), strict=True)
        )
    ]
    return lost_among(answers(starts, lambda: None), actors)


def require_fit(run_dir: RunDir, actors: Sequence[RankActor], facts: Sequence[NodeFacts]) -> None:
    """See to it that the nodes have this version and the run's folder."""
    faults: dict[str, Fault] = {}
    for actor, fact in zip(actors, facts, strict=True):
        where = f"node {actor.address} of the Ray cluster"
        if fact.version != tunesmith.__version__:
            found = f"tunesmith {fact.version}; here it is {tunesmith.__version__}"
            fix = "install the same version on every node"
            faults[actor.node] = Fault(found=found, where=where, fix=fix)
        elif not fact.sees_run:
            found = f"the run's folder {run_dir.path} is not seen there"
            fix = "name a folder with --run-dir that is on a disk which all nodes have, by the "
            fix += "same path, or go through an object store (target.storage)"
            faults[actor.node] = Fault(found=found, where=where, fix=fix)
        elif fact.fault is not None:
            faults[actor.node] = replace(fact.fault, where=f"{where}: {fact.fault.where}")
    if faults:
        raise MachineError(list(faults.values()), code="node_unfit")


def follow(
    run_dir: RunDir, folder: Folder, actors: Sequence[RankActor], stop: StopRequests
) -> int | LostRanks:
    """Wait until all ranks have ended, or one is lost; pass on a request to stop."""
    waiting = {actor.handle.wait.remote(): rank for rank, actor in enumerate(actors)}
    codes: dict[int, int] = {}
    is_told = is_ended = False
    deadline: float | None = None
    while waiting:
        folder.look(actors)
        if not is_told and (asked := stop.asked_code()) is not None:
            is_told = True
            _send(actors, signal.SIGINT if asked == INTERRUPTED else signal.SIGTERM)
        for call, code in finished(list(waiting), within_s=LOOK_EVERY_S).items():
            rank = waiting.pop(call)
            if isinstance(code, Lost):
                return 0 if _is_done(run_dir) else LostRanks({rank: loss_of(actors[rank], code)})
            codes[rank] = code
            if code < 0:
                tell_end(run_dir, rank, code)
            if code and deadline is None:
                deadline = time.monotonic() + GRACE_S
        if deadline is None or time.monotonic() < deadline:
            continue
        if is_ended:  # by us, a minute ago, and no word of it
            silent = Lost("no answer")
            return LostRanks({rank: loss_of(actors[rank], silent) for rank in waiting.values()})
        for rank in waiting.values():
            actors[rank].handle.end.remote(rank)
        is_ended, deadline = True, time.monotonic() + LOSS_KNOWN_WITHIN_S
    folder.catch_up(actors)
    for rank, code in codes.items():
        tell_end(run_dir, rank, code)
    return run_exit_code([codes[rank] for rank in range(len(codes))])


def _is_done(run_dir: RunDir) -> bool:
    """Whether rank 0 has said that all is done, after which no rank is needed."""
    state = run_dir.read_state()
    return state is not None and state.status == "succeeded"


def _send(actors: Sequence[RankActor], number: signal.Signals) -> None:
    for actor in actors:
        actor.handle.send.remote(int(number))


def make_ranks_folder(run_dir: RunDir, restarts: int) -> None:
    """Make the ranks' folder anew; what ranks have left that were lost stays beside it."""
    if restarts:
        run_dir.ranks.rename(run_dir.path / f"{LEFT_BEHIND}{restarts}")
    else:
        for folder in (run_dir.ranks, *run_dir.path.glob(f"{LEFT_BEHIND}*")):
            shutil.rmtree(folder, ignore_errors=True)
    run_dir.ranks.mkdir(parents=True, exist_ok=True)  # a rank that is ending may write to it


def _from_where(run_dir: RunDir) -> str:
    names = [path.name.partition("-")[2] for path in run_dir.checkpoints.glob("step-*")]
    steps = [int(name) for name in names if name.isdigit()]
    return f"after step {max(steps)}" if steps else "from the beginning"


def _lost_too_often(run_dir: RunDir, lost: LostRanks, restarts: int) -> RunError:
    times = f"{restarts} restart" + "s" * (restarts != 1)
    fault = Fault(
        found=f"ranks were lost again after {times}: {lost}",
        where=f"{run_dir.path}: the logs in {LEFT_BEHIND}N and ranks",
        fix="see the nodes' memory and Ray's own logs; go on from the last checkpoint with "
        "--resume, or set a larger target.restarts",
    )
    return RunError(fault, code="nodes_lost")


def _tell(run_dir: RunDir, kind: str, *, message: str, **values: object) -> None:
    """Write an event, while no rank does."""
    log.info("%s", message)
    state = run_dir.read_state()
    with EventLog(run_dir.events_jsonl) as events:
        events.write(kind, state.step if state else None, message=message, **values)
