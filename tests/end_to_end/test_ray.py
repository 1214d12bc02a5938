"""Runs on a Ray cluster of two nodes on this machine: like one process, also where one dies.

`TUNESMITH_RAY=all scripts/test tests/end_to_end/test_ray.py` runs what takes longer, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from tests.fakes.ray_nodes import add_node, make_cluster, node_of
from tests.fakes.tiny_run import (
    TIMEOUT_S,
    logs_of,
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    wait_for_step,
    weights_of,
)
from tunesmith.core.events import Event, read_events
from tunesmith.core.run_dir import RunDir, read_json

pytest.importorskip("ray", reason="the extra ray is not installed")
# What Ray leaves open, or uses of Python's past, is not ours to mend.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]
long = pytest.mark.skipif(os.environ.get("TUNESMITH_RAY") != "all", reason="TUNESMITH_RAY=all")

TWO = {"type": "ddp", "processes": 2}
# Engines take their time to be imported: twice, and on a machine that others use as well.
WITHIN_S = 900
SPREAD = (
    {"type": "ddp"},
    {"type": "deepspeed", "zero": 2},
    {"type": "deepspeed", "zero": 3},
    {"type": "fsdp"},
    {"type": "fsdp", "checkpoints": "parts"},
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    made = make_cluster()
    for _ in range(2):
        add_node(made, num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, cluster: Any) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("ray")
    model = make_model_folder(folder / "model")
    data = make_rows(folder / "rows.jsonl", 60)

    def make_named(name: str, **parts: Any) -> RunDir:
        parts = {"method": {"type": "lora", "rank": 4}, **parts}
        # in bf16 an engine's own order of sums is seen in the fourth digit of a loss
        parts["model"] = {"source": str(model), "dtype": "fp32"}
        training = {"epochs": 2, "micro_batch_tokens": 90, **parts.pop("training", {})}
        evaluation = {"before": False, "after": False}
        if "target" in parts:
            parts["target"] = {"type": "ray", "address": cluster.address, **parts["target"]}
        return make_run(
            folder / name, model, data, training=training, evaluation=evaluation, **parts
        )

    return make_named


def events_of(run_dir: RunDir, kind: str) -> list[Event]:
    return [event for event in read_events(run_dir.events_jsonl) if event["type"] == kind]


def wait_for_no_ranks(run_dir: RunDir) -> None:
    """Wait until no process of this machine carries out the run."""
    deadline = time.monotonic() + TIMEOUT_S
    while any(
        "tunesmith.run" in process.info["cmdline"] and str(run_dir.path) in process.info["cmdline"]
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"]
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@long
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=["SIGINT", "SIGTERM"]
)
def test_a_request_to_stop_reaches_all_ranks(
    make: Callable[..., RunDir], number: signal.Signals, code: int
) -> None:
    run_dir = make(f"stopped-{code}", strategy=TWO, target={})
    process = start_run(run_dir)
    wait_for_step(run_dir, process, 2)
    process.send_signal(number)
    assert process.wait(TIMEOUT_S) == code, logs_of(run_dir)
    state = run_dir.read_state()
    assert state is not None
    assert (state.status, (run_dir.checkpoints / f"step-{state.step}").is_dir()) == (
        "stopped",
        True,
    )


@long
def test_ranks_end_where_the_command_is_killed(make: Callable[..., RunDir]) -> None:
    run_dir = make("orphaned", strategy=TWO, target={})
    process = start_run(run_dir)
    wait_for_step(run_dir, process, 2)
    process.kill()
    process.wait()
    wait_for_no_ranks(run_dir)
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, logs_of(run_dir)  # there is room again


@long
def test_a_rank_that_is_killed_on_a_node_that_is_well_fails_the_run(
    make: Callable[..., RunDir],
) -> None:
    run_dir = make("killed", strategy=TWO, target={})
    process = start_run(run_dir)
    wait_for_step(run_dir, process, 2)
    second = run_dir.of_rank(1).read_state()
    assert second is not None
    assert second.pid is not None
    os.kill(second.pid, signal.SIGKILL)
    assert process.wait(TIMEOUT_S) == 3, logs_of(run_dir)
    (error,) = events_of(run_dir, "error")
    assert "rank 1 ended by signal 9" in error["faults"][0]["found"]
    assert not events_of(run_dir, "restart")


@long
def test_an_actor_that_is_lost_with_rank_0_is_made_again(make: Callable[..., RunDir]) -> None:
    run_dir = make("actor", strategy=TWO, target={"restarts": 1})
    process = start_run(run_dir)
    wait_for_step(run_dir, process, 6)
    first = run_dir.read_state()
    assert first is not None
    assert first.pid is not None
    psutil.Process(first.pid).parent().kill()
    assert process.wait(TIMEOUT_S) == 0, logs_of(run_dir)
    (restart,) = events_of(run_dir, "restart")
    assert restart["ranks"] == 2
    assert sorted(losses_of(run_dir)) == list(range(1, 1 + max(losses_of(run_dir))))


def test_too_little_room_is_said_with_what_is_there(make: Callable[..., RunDir]) -> None:
    run_dir = make("no-room", strategy=TWO, target={"cores": 2, "wait_s": 1.0})
    assert start_run(run_dir).wait(TIMEOUT_S) == 2, logs_of(run_dir)
    (error,) = events_of(run_dir, "error")
    assert error["code"] == "no_room"
    found = error["faults"][0]["found"]
    assert "no room for 2 processes of 2 cores each" in found
    assert "could hold 0 if it were empty" in found
    assert "2 cores are free" in found


@pytest.fixture
def workers(cluster: Any) -> Any:
    """The cluster with two nodes beside its head that ranks may be on, and room for them only."""
    while len(cluster.worker_nodes) < 2:
        add_node(cluster, num_cpus=1)
    return cluster


@pytest.fixture
def starter() -> Iterator[Callable[[RunDir], subprocess.Popen[bytes]]]:
    """Start runs, and end those that a test which fails has left, with the room that they have."""
    started: list[subprocess.Popen[bytes]] = []

    def start(run_dir: RunDir) -> subprocess.Popen[bytes]:
        started.append(start_run(run_dir))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def one(make: Callable[..., RunDir]) -> RunDir:
    run_dir = make("one")
    assert start_run(run_dir).wait(WITHIN_S) == 0, logs_of(run_dir)
    return run_dir


@pytest.mark.long
@pytest.mark.timeout(4 * WITHIN_S)
@pytest.mark.parametrize("lost", [0, 1], ids=["rank-0", "rank-1"])
@pytest.mark.parametrize("strategy", SPREAD, ids=lambda part: "-".join(map(str, part.values())))
def test_a_run_on_two_nodes_is_like_one_process_and_goes_on_when_a_node_dies(
    make: Callable[..., RunDir],
    workers: Any,
    one: RunDir,
    starter: Callable[[RunDir], subprocess.Popen[bytes]],
    strategy: dict[str, Any],
    lost: int,
) -> None:
    name = "-".join(map(str, (*strategy.values(), lost)))
    two = make(name, strategy={**strategy, "processes": 2}, target={})
    process = starter(two)
    total = read_json(one.plan_json)["total_steps"]

    wait_for_step(two, process, total // 2, within_s=WITHIN_S)
    assert read_json(two.environment_json)["ranks"] == 2
    workers.remove_node(node_of(workers, two, lost), allow_graceful=False)
    assert process.wait(WITHIN_S) == 0, logs_of(two)
    expected = losses_of(one)
    steps = events_of(two, "step")  # some of them twice: by two ranks, then by one
    assert {step["step"] for step in steps} == expected.keys()
    for step in steps:
        assert step["loss"] == pytest.approx(expected[step["step"]], rel=1e-4), step
    ours, theirs = weights_of(two), weights_of(one)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(theirs[name], atol=1e-3) for name in theirs)
    (restart,) = events_of(two, "restart")
    assert (restart["ranks"], restart["restart"]) == (1, 1)
    (resumed,) = [event for event in events_of(two, "run") if event["status"] == "resumed"]
    saved = [e["step"] for e in events_of(two, "checkpoint") if e["time"] < restart["time"]]
    assert max(saved) <= resumed["step"] < total  # from the last checkpoint
    assert (two.path / "ranks-lost-1").is_dir()
