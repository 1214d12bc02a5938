"""A Ray cluster as a driver sees it: its nodes, room for all ranks at once, an actor for each rank.

The only module that imports ray.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tunesmith.core.errors import Fault, MachineError
from tunesmith.platforms.places import by_node
from tunesmith.platforms.room import Node, Share

THIS_MACHINE = "auto"
FOR_CLIENTS = "ray://"
REACHED_WITHIN_S = 5.0
ANSWER_WITHIN_S = 120.0
LOOK_EVERY_S = 0.2
# Calls to an actor that may be under way at once: `wait` lasts as long as the rank.
CALLS_AT_ONCE = 8


# What an actor on a node is: a class, and what it is made from.
ActorKind = Callable[[str], tuple[type, tuple[object, ...]]]


@dataclass(frozen=True)
class Lost:
    """What Ray says of an actor that is gone."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class RankActor:
    """A rank's place: the actor, and the node that it is on."""

    handle: Any
    node: str
    address: str


@dataclass(frozen=True)
class LostRanks:
    """Ranks that are gone with their actor or node, and what is known of each."""

    reasons: dict[int, str]

    def __str__(self) -> str:
        return "; ".join(f"rank {rank} {reason}" for rank, reason in sorted(self.reasons.items()))


@contextmanager
def connected(address: str | None) -> Generator[str]:
    """Be a driver of the cluster; yields its address.

    Raises:
        MachineError: there is no such cluster.
    """
    asked = address or os.environ.get("RAY_ADDRESS") or THIS_MACHINE
    if asked.startswith(FOR_CLIENTS):
        raise _no_cluster(
            asked,
            "that is an address for Ray's clients, and a run must be started on one of its nodes",
        )
    if not _can_be_reached(asked):
        raise _no_cluster(asked, "nothing answers there")
    try:
        context: Any = ray.init(address=asked, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(asked, str(error)) from error
    try:
        yield str(context.address_info["address"])
    finally:
        ray.shutdown()


def nodes() -> list[Node]:
    """Return the nodes that are alive, with all they have."""
    return [
        Node(
            address=str(node["NodeManagerAddress"]),
            cpus=float(node["Resources"].get("CPU", 0)),
            gpus=float(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def free() -> Share:
    """Return what nobody has reserved, on all nodes together."""
    left = ray.available_resources()
    return Share(cores=int(left.get("CPU", 0)), gpus=int(left.get("GPU", 0)))


class Room:
    """Room for so many ranks, all of it or none; GPUs close together, cores far apart."""

    def __init__(self, share: Share, size: int) -> None:
        self.size = size
        self.share = share
        resources = {"CPU": float(share.cores)} | ({"GPU": 1.0} if share.gpus else {})
        self._group: PlacementGroup = placement_group(
            [resources] * size, strategy="PACK" if share.gpus else "SPREAD"
        )

    def is_there(self, *, within_s: int) -> bool:
        """Whether it is reserved, at the latest after so many seconds."""
        return bool(self._group.wait(within_s))

    def actors(self, kind: ActorKind) -> list[RankActor]:
        """Start an actor in each place; ranks of one node follow each other."""
        table: Any = placement_group_table(self._group)
        ids = [str(table["bundles_to_node_id"][place]) for place in range(self.size)]
        addresses = {str(one["NodeID"]): str(one["NodeManagerAddress"]) for one in ray.nodes()}
        return [
            RankActor(
                handle=self._actor(kind, ids[place], place),
                node=ids[place],
                address=addresses.get(ids[place], "an unknown node"),
            )
            for place in by_node(ids)
        ]

    def release(self) -> None:
        """Give it back; what is still in it is ended."""
        remove_placement_group(self._group)

    def _actor(self, kind: ActorKind, node: str, place: int) -> Any:
        made, arguments = kind(node)
        actor: Any = ray.remote(made)
        return actor.options(
            num_cpus=self.share.cores,
            num_gpus=self.share.gpus,
            max_restarts=0,
            max_concurrency=CALLS_AT_ONCE,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                self._group, placement_group_bundle_index=place
            ),
        ).remote(*arguments)


def finished(calls: Sequence[Any], *, within_s: float) -> dict[Any, Any]:
    """Wait a little; return the calls that have an answer, with it, or how their actor was lost.

    Raises:
        MachineError: an actor could not be made, as its node lacks what it needs.
    """
    done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=within_s)
    return {call: _answer(call) for call in done}


def answers(
    calls: Sequence[Any], between: Callable[[], None], *, within_s: float = ANSWER_WITHIN_S
) -> list[Any]:
    """Wait for the answers to all calls, or Lost where there is none; `between` may raise."""
    deadline = time.monotonic() + within_s
    found: dict[Any, Any] = {}
    while len(found) < len(calls) and time.monotonic() < deadline:
        left = [call for call in calls if call not in found]
        found |= finished(left, within_s=LOOK_EVERY_S)
        between()
    return [found.get(call, Lost(f"no answer within {within_s:.0f} s")) for call in calls]


def lost_among(told: Sequence[Any], actors: Sequence[RankActor]) -> LostRanks | None:
    """Return the ranks whose actor has no answer, where there are any."""
    reasons = {
        rank: loss_of(actors[rank], answer)
        for rank, answer in enumerate(told)
        if isinstance(answer, Lost)
    }
    return LostRanks(reasons) if reasons else None


def loss_of(actor: RankActor, lost: Lost) -> str:
    """Say where an actor was, and what is known of its end."""
    return f"on {actor.address} (Ray says: {lost.reason})"


def end_actors(actors: Sequence[RankActor], *, within_s: float) -> None:
    """End the ranks and their actors at once; those that are gone already give no answer."""
    calls = [actor.handle.end_at_once.remote() for actor in actors]
    ray.wait(calls, num_returns=len(calls), timeout=within_s)
    for actor in actors:
        ray.kill(actor.handle)


def _answer(call: Any) -> Any:
    try:
        return ray.get(call)
    except RayActorError as error:
        if error.actor_init_failed:
            raise _no_actor(error) from error
        return Lost(_last_words(error))
    except RayError as error:
        return Lost(_last_words(error))


def _last_words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _no_actor(error: Exception) -> MachineError:
    fault = Fault(
        found=f"a node of the cluster cannot start a rank: {_last_words(error)}",
        where="the Ray cluster",
        fix="install the same tunesmith in the Python of every node",
    )
    return MachineError(fault, code="node_unfit")


def _can_be_reached(address: str) -> bool:
    """Whether something listens there: Ray itself would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return True
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_WITHIN_S):
            return True
    except OSError:
        return False


def _no_cluster(address: str, reason: str) -> MachineError:
    where = "this machine" if address == THIS_MACHINE else address
    fault = Fault(
        found=f"no Ray cluster at {where}: {' '.join(reason.split())}",
        where="recipe: target.address",
        fix="start one (ray start --head; on the other machines ray start --address=HOST:6379) and "
        "start the run on one of its nodes, or set target.address or RAY_ADDRESS to host:port",
    )
    return MachineError(fault, code="no_cluster")
