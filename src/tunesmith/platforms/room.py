"""How many ranks a cluster has room for, and what each of them takes. Pure: nodes in, numbers out.

Every rank takes the same: a GPU where the cluster has any, and a number of cores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tunesmith.core.errors import Fault, MachineError
from tunesmith.recipe.model import ModelPart
from tunesmith.recipe.strategy import SingleStrategy, Strategy


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster, with all it has, taken or not."""

    address: str
    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a rank reserves, or what is free."""

    cores: int
    gpus: int

    def text(self) -> str:
        """For people: `1 GPU and 4 cores`."""
        cores = f"{self.cores} core" + "s" * (self.cores != 1)
        return f"{self.gpus} GPU and {cores}" if self.gpus else cores


def usable(nodes: Sequence[Node], model: ModelPart) -> list[Node]:
    """Return the nodes with what a recipe may use of them."""
    if model.device != "cpu":
        return list(nodes)
    return [replace(node, gpus=0) for node in nodes]


def count_processes(strategy: Strategy, nodes: Sequence[Node]) -> int:
    """How many ranks a strategy asks for on a cluster: by default one a GPU, or else one a node."""
    if isinstance(strategy, SingleStrategy):
        return 1
    if strategy.processes != "auto":
        return strategy.processes
    gpus = sum(int(node.gpus) for node in nodes)
    return gpus or max(1, sum(node.cpus >= 1 for node in nodes))


def share_of(cores: int | Literal["auto"], processes: int, nodes: Sequence[Node]) -> Share:
    """What each of so many ranks takes; auto: the least of what a node has for each of its ranks.

    Nodes without a core (a head that only manages), or without a GPU where others have one, count
    for nothing.
    """
    gpus = 1 if any(node.gpus >= 1 for node in nodes) else 0
    if cores != "auto":
        return Share(cores=cores, gpus=gpus)
    if gpus:
        each = [node.cpus / int(node.gpus) for node in nodes if node.gpus >= 1]
        return Share(cores=max(1, int(min(each))), gpus=gpus)
    useful = sorted((node.cpus for node in nodes if node.cpus >= 1), reverse=True)[:processes]
    if not useful:
        return Share(cores=1, gpus=0)
    return Share(cores=max(1, int(useful[-1] / math.ceil(processes / len(useful)))), gpus=0)


def count_fitting(share: Share, nodes: Sequence[Node]) -> int:
    """How many ranks the nodes could hold if nobody else were on them."""
    return sum(_fitting(share, node) for node in nodes)


def no_room(
    share: Share,
    processes: int,
    nodes: Sequence[Node],
    *,
    free: Share,
    address: str,
    waited_s: float,
) -> MachineError:
    """Return the error for ranks that the cluster had no room for, with what was found."""
    ranks = f"{processes} process" + "es" * (processes != 1)
    found = (
        f"no room for {ranks} of {share.text()} each within {waited_s:.0f} s: the cluster could "
        f"hold {count_fitting(share, nodes)} if it were empty ({_nodes_text(nodes)}), and "
        f"{free.cores} cores" + (f" and {free.gpus} GPUs" if share.gpus else "") + " are free"
    )
    fix = (
        "lower strategy.processes or target.cores, add nodes, or wait longer for others to end "
        "(target.wait_s)"
    )
    where = f"the Ray cluster at {address}"
    return MachineError(Fault(found=found, where=where, fix=fix), code="no_room")


def _fitting(share: Share, node: Node) -> int:
    by_cores = int(node.cpus // share.cores)
    return min(by_cores, int(node.gpus)) if share.gpus else by_cores


def _nodes_text(nodes: Sequence[Node]) -> str:
    if not nodes:
        return "it has no nodes"
    return "; ".join(
        f"{node.address}: {node.cpus:g} cores" + (f", {node.gpus:g} GPUs" if node.gpus else "")
        for node in nodes
    )
