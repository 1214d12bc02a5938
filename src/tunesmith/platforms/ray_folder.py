"""How ranks on the nodes of a cluster have the run's folder, and its driver what they write.

SharedFolder     a disk that all nodes have: nothing is to be done
StoredFolder     each node has a folder of its own. What ranks need goes through an object
                 store, and checkpoints and results come back the same way; lines of events
                 and logs, and signs of life, come over Ray at once.
"""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from tunesmith.core.errors import Fault, MachineError, RunError
from tunesmith.core.run_dir import RunDir
from tunesmith.core.run_lock import is_held
from tunesmith.core.stopping import StopRequests
from tunesmith.platforms.news import Change, News, put_down
from tunesmith.platforms.object_store import CODE, check_store, open_store
from tunesmith.platforms.rank_process import RankProcess
from tunesmith.platforms.ray_cluster import (
    Lost,
    LostRanks,
    RankActor,
    answers,
    finished,
    lost_among,
)
from tunesmith.platforms.stored_inputs import send_inputs
from tunesmith.platforms.stored_rank import Brought, StoredRank
from tunesmith.platforms.stored_run import (
    Sent,
    StoredRun,
    bring_back,
    read_place,
    whole_steps,
    write_place,
)
from tunesmith.recipe.recipe import Recipe

LOOK_EVERY_S = 0.5
# A network disk may keep the lock of a machine that is gone for 90 s.
LOCK_FREE_WITHIN_S = 120.0
CLEARED_WITHIN_S = 30.0
# The driver's own are more complete: they have what it has told itself.
DRIVERS_OWN = ("events.jsonl", "log.txt", "state.json")
STATE = "state.json"
RANK_EVENTS = re.compile(r"ranks/rank-\d+/events\.jsonl")
BEAT = re.compile(r"ranks/beat-\d+")

Tell = Callable[..., None]


class Folder(Protocol):
    """What differs between a disk that all nodes have and an object store."""

    def begin(self) -> None:
        """Get ready for a start of all ranks."""
        ...

    def actor(self, node: str) -> tuple[type, tuple[object, ...]]:
        """Return what a rank's actor is on a node, and what it is made from."""
        ...

    def bring(self, actors: Sequence[RankActor]) -> LostRanks | None:
        """Have on each node what its ranks need."""
        ...

    def look(self, actors: Sequence[RankActor]) -> None:
        """See what ranks have written, while they go on; called often."""
        ...

    def catch_up(self, actors: Sequence[RankActor]) -> None:
        """See all that ranks have written, once they have ended."""
        ...

    def end(self, actors: Sequence[RankActor], ending: int | LostRanks) -> None:
        """Have all that the run has left here, before the actors go."""
        ...

    def wait_until_free(self) -> None:
        """Wait until no rank that was lost holds the folder any more."""
        ...


@dataclass(frozen=True)
class SharedFolder:
    """A folder on a disk that all nodes have."""

    run_dir: RunDir

    def begin(self) -> None:
        """Nothing is to be done."""

    def actor(self, node: str) -> tuple[type, tuple[object, ...]]:
        """Return what a rank's actor is, on any node."""
        del node
        return RankProcess, (self.run_dir.path,)

    def bring(self, actors: Sequence[RankActor]) -> LostRanks | None:
        """Nothing is to be done."""
        del actors

    def look(self, actors: Sequence[RankActor]) -> None:
        """Nothing is to be done."""
        del actors

    def catch_up(self, actors: Sequence[RankActor]) -> None:
        """Nothing is to be done."""
        del actors

    def end(self, actors: Sequence[RankActor], ending: int | LostRanks) -> None:
        """Nothing is to be done."""
        del actors, ending

    def wait_until_free(self) -> None:
        """Wait for the lock of a rank 0 that was lost."""
        deadline = time.monotonic() + LOCK_FREE_WITHIN_S
        while is_held(self.run_dir) and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)


def stored_folder(
    run_dir: RunDir, recipe: Recipe, url: str, wait_s: float, stop: StopRequests, tell: Tell
) -> StoredFolder:
    """Return a run's folder in a store, after what the recipe names was sent there.

    Raises:
        UserError: the store cannot be used, or a file of the recipe is not there.
    """
    store = open_store(url)
    check_store(store)
    known = read_place(run_dir)
    name = known["name"] if known else f"{run_dir.path.name}-{uuid.uuid4().hex[:8]}"
    bring_back(run_dir, url, lambda message: tell("warning", message=message))
    write_place(run_dir, url, name)
    run = StoredRun(store, name)
    new = send_inputs(recipe, run, stop.check)
    tell("note", message=f"through the object store {run.url}; {len(new)} files of the recipe sent")
    return StoredFolder(run_dir, run, url, wait_s, stop, tell)


@dataclass(eq=False)
class StoredFolder:
    """A folder of each node's own, an object store, and the driver's folder."""

    run_dir: RunDir
    run: StoredRun
    url: str
    wait_s: float
    stop: StopRequests
    tell: Tell
    _asked: dict[Any, int] = field(default_factory=dict[Any, int])
    _gone: set[int] = field(default_factory=set[int])
    _looked_at: float = 0.0
    _unsent: Fault | None = None
    _state: Change | None = None
    """That rank 0 has succeeded, which counts once all of it is here."""
    _passed_on: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def begin(self) -> None:
        """Send what the run has so far.

        Raises:
            MachineError: the store does not take it.
        """
        self._asked, self._gone, self._passed_on = {}, set(), {}
        self._unsent = self._state = None
        self.run.send_files(self.run_dir.path, Sent())
        stored = self.run.steps()
        for step, folder in sorted(whole_steps(self.run_dir.checkpoints).items()):
            if step > max(stored, default=0):
                self.run.send_checkpoint(folder)

    def actor(self, node: str) -> tuple[type, tuple[object, ...]]:
        """Return what a rank's actor is on a node."""
        return StoredRank, (self.url, self.run.name, node, self.wait_s)

    def bring(self, actors: Sequence[RankActor]) -> LostRanks | None:
        """Send what earlier starts have left on nodes, then fetch on each what it needs.

        Raises:
            MachineError: a node cannot.
        """
        first = {actor.node: rank for rank, actor in reversed(list(enumerate(actors)))}
        for call in ("send_left", "bring"):
            ranks = sorted(first.values())
            calls = [
                actors[rank].handle.send_left.remote()
                if call == "send_left"
                else actors[rank].handle.bring.remote(everything=rank == 0)
                for rank in ranks
            ]
            told = answers(calls, self.stop.check, within_s=math.inf)
            if lost := lost_among(told, [actors[rank] for rank in ranks]):
                return LostRanks({ranks[place]: why for place, why in lost.reasons.items()})
            self._hear([(actors[rank], one) for rank, one in zip(ranks, told, strict=True)])
        return None

    def _hear(self, told: Sequence[tuple[RankActor, Brought]]) -> None:
        faults: list[Fault] = []
        for message in dict.fromkeys(message for _, one in told for message in one.warnings):
            self.tell("warning", message=message)
        for actor, one in told:
            if one.fault is not None:
                where = f"node {actor.address} of the Ray cluster: {one.fault.where}"
                faults.append(Fault(found=one.fault.found, where=where, fix=one.fault.fix))
        if faults:
            raise MachineError(faults, code=CODE)

    def look(self, actors: Sequence[RankActor]) -> None:
        """Ask each actor now and then, and write down its answer when it comes."""
        self._take(finished(list(self._asked), within_s=0.0) if self._asked else {})
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        self._pass_on(actors)
        for rank, actor in enumerate(actors):
            if rank not in self._asked.values() and rank not in self._gone:
                self._asked[actor.handle.news.remote()] = rank

    def catch_up(self, actors: Sequence[RankActor]) -> None:
        """Wait for the answers that are on their way, then ask once more."""
        for _ in range(2):
            calls = list(self._asked)
            self._take(dict(zip(calls, answers(calls, lambda: None), strict=True)))
            self._asked = {
                actor.handle.news.remote(): rank
                for rank, actor in enumerate(actors)
                if rank not in self._gone
            }
        calls = list(self._asked)
        self._take(dict(zip(calls, answers(calls, lambda: None), strict=True)))

    def end(self, actors: Sequence[RankActor], ending: int | LostRanks) -> None:
        """Fetch what the run has left, and delete it on the nodes.

        Raises:
            RunError: the store has not got everything.
        """
        if isinstance(ending, LostRanks):
            self._gone |= ending.reasons.keys()
            self.catch_up(actors)
            return
        if self._unsent is not None:
            raise self._not_sent(self._unsent, actors)
        try:
            self.run.fetch_results(self.run_dir.path, but=DRIVERS_OWN)
            if ending != 0:
                self.run_dir.checkpoints.mkdir(exist_ok=True)
                self.run.fetch_checkpoints(
                    self.run_dir.checkpoints,
                    only_newest=True,
                    tell=lambda message: self.tell("warning", message=message),
                )
        except MachineError as error:
            raise RunError(error.faults, code=CODE) from error
        if self._state is not None:
            put_down(self._state, self.run_dir.path)
        calls = [actor.handle.clear.remote() for actor in actors]
        answers(calls, lambda: None, within_s=CLEARED_WITHIN_S)

    def wait_until_free(self) -> None:
        """Nothing is to be done: this process holds the folder."""

    def _take(self, told: dict[Any, Any]) -> None:
        for call, news in told.items():
            rank = self._asked.pop(call)
            if isinstance(news, Lost):
                self._gone.add(rank)
                continue
            assert isinstance(news, News)
            self._unsent = news.unsent or self._unsent
            for change in news.changes:
                self._put_down(change)
            for message in news.messages:
                self.tell("warning", message=message)

    def _put_down(self, change: Change) -> None:
        if change.name == STATE and orjson.loads(change.content)["status"] == "succeeded":
            self._state = change
        else:
            put_down(change, self.run_dir.path)

    def _pass_on(self, actors: Sequence[RankActor]) -> None:
        """Tell rank 0's node what ranks do, and why one has failed, which rank 0 tells."""
        changes: list[Change] = []
        home = {
            f"ranks/beat-{rank}" for rank, one in enumerate(actors) if one.node == actors[0].node
        }
        for file in self.run_dir.ranks.rglob("*"):
            name = str(file.relative_to(self.run_dir.path))
            if not (BEAT.fullmatch(name) or RANK_EVENTS.fullmatch(name)) or name in home:
                continue
            content = file.read_bytes()
            if RANK_EVENTS.fullmatch(name):
                lines = content.splitlines(keepends=True)
                content = b"".join(line for line in lines if b'"type":"error"' in line)
            if content and self._passed_on.get(name) != content:
                self._passed_on[name] = content
                changes.append(Change(name=name, content=content, is_added=False))
        if changes and 0 not in self._gone:
            actors[0].handle.take.remote(changes)

    def _not_sent(self, fault: Fault, actors: Sequence[RankActor]) -> RunError:
        (where,) = answers([actors[0].handle.where.remote()], lambda: None)
        place = "its folder" if isinstance(where, Lost) else str(where)
        return RunError(
            Fault(
                found=f"{fault.found}, for longer than {self.wait_s:.0f} s; what was not sent is "
                f"in {place} on node {actors[0].address}, and is sent when the run goes on there",
                where=fault.where,
                fix=f"{fault.fix}; then go on with --resume",
            ),
            code=CODE,
        )
