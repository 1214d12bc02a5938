from __future__ import annotations

import pytest

from tunesmith.platforms.room import (
    Node,
    Share,
    count_fitting,
    count_processes,
    no_room,
    share_of,
    usable,
)
from tunesmith.recipe.model import ModelPart
from tunesmith.recipe.strategy import DdpStrategy, SingleStrategy


def node(cpus: float, gpus: float = 0) -> Node:
    return Node(address="10.0.0.1", cpus=cpus, gpus=gpus)


@pytest.mark.parametrize(
    ("nodes", "processes"),
    [
        ([node(8, 4), node(8, 4), node(2)], 8),
        ([node(0), node(8), node(4)], 2),
        ([node(0)], 1),
    ],
    ids=["gpus", "nodes", "nothing"],
)
def test_auto_is_a_process_for_each_device(nodes: list[Node], processes: int) -> None:
    assert count_processes(DdpStrategy(), nodes) == processes
    assert count_processes(DdpStrategy(processes=3), nodes) == 3
    assert count_processes(SingleStrategy(), nodes) == 1


@pytest.mark.parametrize(
    ("nodes", "processes", "share"),
    [
        ([node(8), node(4)], 2, Share(cores=4, gpus=0)),
        ([node(8), node(4)], 1, Share(cores=8, gpus=0)),
        ([node(0), node(8)], 2, Share(cores=4, gpus=0)),
        ([node(0)], 2, Share(cores=1, gpus=0)),
        ([node(16, 4), node(2)], 4, Share(cores=4, gpus=1)),
        ([node(1, 2)], 2, Share(cores=1, gpus=1)),
    ],
)
def test_a_rank_takes_its_part_of_a_node(nodes: list[Node], processes: int, share: Share) -> None:
    found = share_of("auto", processes, nodes)
    assert found == share
    assert share_of(7, processes, nodes) == Share(cores=7, gpus=share.gpus)


def test_a_share_lies_on_one_node() -> None:
    assert count_fitting(Share(cores=3, gpus=0), [node(4), node(7), node(2)]) == 3
    assert count_fitting(Share(cores=1, gpus=1), [node(8, 2), node(1, 4), node(8)]) == 3


def test_no_room_says_what_is_needed_and_what_is_there() -> None:
    error = no_room(
        Share(cores=4, gpus=0),
        3,
        [node(8), node(2)],
        free=Share(cores=5, gpus=0),
        address="10.0.0.1:6379",
        waited_s=60,
    )
    (fault,) = error.faults
    assert "no room for 3 processes of 4 cores each within 60 s" in fault.found
    assert "hold 2 if it were empty (10.0.0.1: 8 cores; 10.0.0.1: 2 cores)" in fault.found
    assert "5 cores are free" in fault.found
    assert "10.0.0.1:6379" in fault.where
    assert error.exit_code == 2


def test_a_recipe_for_the_cpu_takes_no_gpu() -> None:
    nodes = [node(8, 4), node(8)]
    for device, processes, gpus in (("auto", 4, 1), ("cpu", 2, 0)):
        part = ModelPart.model_validate({"source": "m", "device": device})
        there = usable(nodes, part)
        assert count_processes(DdpStrategy(), there) == processes
        assert share_of("auto", processes, there).gpus == gpus
