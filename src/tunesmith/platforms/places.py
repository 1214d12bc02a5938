"""From the nodes that ranks are on to each rank's variables (core/rank_place.py). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.core.rank_place import CORES

DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Where a rank is: its node, the devices it was given there, a port that is free there."""

    node: str
    address: str
    devices: str | None
    port: int


def by_node(nodes: Sequence[str]) -> list[int]:
    """Return the places in `nodes` so that those of one node follow each other."""
    first = {node: nodes.index(node) for node in nodes}
    return sorted(range(len(nodes)), key=lambda place: (first[nodes[place]], place))


def variables(seats: Sequence[Seat], cores: int) -> list[dict[str, str]]:
    """Return each rank's variables: as torchrun sets them, the cores, and its node's devices.

    Every rank sees the devices of all ranks on its node, in their order, since they exchange values
    through each other's.
    """
    return [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(len(seats)),
            "LOCAL_RANK": str(_on_node(seats[:rank], seat)),
            "LOCAL_WORLD_SIZE": str(_on_node(seats, seat)),
            "MASTER_ADDR": seats[0].address,
            "MASTER_PORT": str(seats[0].port),
            CORES: str(cores),
            **_devices(seats, seat),
        }
        for rank, seat in enumerate(seats)
    ]


def _on_node(seats: Sequence[Seat], seat: Seat) -> int:
    return sum(other.node == seat.node for other in seats)


def _devices(seats: Sequence[Seat], seat: Seat) -> dict[str, str]:
    found = [other.devices for other in seats if other.node == seat.node and other.devices]
    return {DEVICES: ",".join(found)} if found else {}
