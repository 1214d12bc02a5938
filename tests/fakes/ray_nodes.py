"""A Ray cluster of several nodes on this machine, which may die one by one."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from tunesmith.core.run_dir import RunDir


def make_cluster() -> Any:
    """Start a cluster whose head has no room for ranks, so that any rank's node may die."""
    from ray.cluster_utils import Cluster

    made = Cluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        add_node(made, num_cpus=0, include_dashboard=False)
    return made


def add_node(cluster: Any, **settings: Any) -> None:
    """Add a node; Ray gives it 30 s to start, which is little on a busy machine."""
    for left in (2, 1, 0):
        try:
            cluster.add_node(**settings)
        except Exception as error:
            if "timed out during startup" not in str(error) or not left:
                raise
        else:
            return


def raylet_of(node: Any) -> int:
    """The number of the process that is a node."""
    return int(node.all_processes["raylet"][0].process.pid)


def node_of(cluster: Any, run_dir: RunDir, rank: int) -> Any:
    """The node that a rank is on: its process's parent is the actor, whose parent is the node."""
    state = run_dir.of_rank(rank).read_state()
    assert state is not None
    assert state.pid is not None
    raylet = psutil.Process(state.pid).parent().parent().pid
    return next(node for node in cluster.worker_nodes if raylet_of(node) == raylet)
