"""Whole runs of two ranks: like one, stopped, killed, hanging, and under another launcher."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
from tunesmith.inference.loading import load
from tunesmith.models.tensor_parts import Joined, open_tensors
from tunesmith.training.checkpoint import list_checkpoints

# Seconds in which a run of two ranks must be over once one of them has died.
ENDS_IN_S = 30
QUIET = {"before": False, "after": False}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("ranks")
    model = make_model_folder(folder / "model")
    data = make_rows(folder / "rows.jsonl", 60)

    def make_named(name: str, **parts: Any) -> RunDir:
        parts = {"method": {"type": "lora", "rank": 4}, **parts}
        parts["model"] = {"source": str(model), **parts.get("model", {})}
        training = {"epochs": 2, "micro_batch_tokens": 90, **parts.pop("training", {})}
        return make_run(folder / name, model, data, training=training, **parts)

    return make_named


def ddp(**settings: Any) -> dict[str, Any]:
    return {"type": "ddp", "processes": 2, **settings}


def errors_of(run_dir: RunDir) -> list[Event]:
    return [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]


@pytest.mark.long
def test_two_ranks_however_stopped_end_like_one(make: Callable[..., RunDir]) -> None:
    one, two = make("one"), make("two", strategy=ddp())
    assert start_run(one).wait(TIMEOUT_S) == 0
    total = read_json(one.plan_json)["total_steps"]
    assert total >= 10

    process = start_run(two)
    wait_for_step(two, process, 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(ENDS_IN_S) == 75, logs_of(two)
    state = two.read_state()
    assert state is not None
    assert (state.status, (two.checkpoints / f"step-{state.step}").is_dir()) == ("stopped", True)

    process = start_run(two)
    wait_for_step(two, process, total // 2 + 1)
    second = two.of_rank(1).read_state()
    assert second is not None
    assert second.pid is not None
    os.kill(second.pid, signal.SIGKILL)
    assert process.wait(ENDS_IN_S) == 3, logs_of(two)
    (error,) = errors_of(two)
    assert error["code"] == "rank_died"
    assert "rank 1 ended by signal 9" in error["faults"][0]["found"]

    assert start_run(two).wait(TIMEOUT_S) == 0, logs_of(two)
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-4)
    ours, theirs = weights_of(two), weights_of(one)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(theirs[name], atol=1e-3) for name in ours)
    first, last = read_json(one.evaluation_json), read_json(two.evaluation_json)
    for when in ("before", "after"):
        assert last[when]["loss"] == pytest.approx(first[when]["loss"], rel=1e-4)
    steps = [e["step"] for e in read_events(two.of_rank(1).events_jsonl) if e["type"] == "step"]
    assert steps[-1] == total
    assert not two.of_rank(1).final.exists()


HANG_ON_RANK_1 = """
import os, sys, time
import tunesmith.training.objective as objective
from tunesmith.run.process import main

original = objective.summed_loss
calls = []

def hangs(model, batch):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) == 5:
        time.sleep(600)
    return original(model, batch)

objective.summed_loss = hangs
sys.exit(main([sys.argv[1]]))
"""


def test_a_rank_that_hangs_ends_the_run_with_the_stacks_of_all(
    make: Callable[..., RunDir], tmp_path: Path
) -> None:
    run_dir = make("hangs", strategy=ddp(hang_after_s=3), evaluation=QUIET)
    script = tmp_path / "hang.py"
    script.write_text(HANG_ON_RANK_1)
    run_dir.ranks.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(run_dir.path)],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "TUNESMITH_MEETING_FILE": str(run_dir.ranks / "meeting"),
            },
            stderr=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    wait_for_step(run_dir, processes[0], 1)
    started = time.monotonic()
    assert [process.wait(ENDS_IN_S) for process in processes] == [3, 3], logs_of(run_dir)
    assert time.monotonic() - started < 20
    (error,) = errors_of(run_dir)
    assert (error["code"], error["exit_code"]) == ("rank_hangs", 3)
    assert "rank 1: computing micro-batch" in error["faults"][0]["found"]
    assert "rank 0: waiting for the others" in error["faults"][0]["found"]
    assert "hangs" in (run_dir.ranks / "stacks-1.txt").read_text()
    assert "all_reduce" in (run_dir.ranks / "stacks-0.txt").read_text()
    state = run_dir.read_state()
    assert state is not None
    assert state.status == "failed"


def test_a_fault_of_the_users_is_told_once_and_ends_all_ranks(make: Callable[..., RunDir]) -> None:
    run_dir = make("fault", strategy=ddp(), training={"warmup": 1000, "max_steps": 3})
    assert start_run(run_dir).wait(TIMEOUT_S) == 2, logs_of(run_dir)
    (error,) = errors_of(run_dir)
    assert "a warm-up of 1000 steps" in error["faults"][0]["found"]


def test_another_launchers_ranks_make_the_run(make: Callable[..., RunDir], tmp_path: Path) -> None:
    asked = make("torchrun", strategy=ddp(), training={"max_steps": 3}, evaluation=QUIET)
    run_dir = RunDir(tmp_path / "run")
    command = ["torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", "-m", "tunesmith", "train"]
    command += [str(asked.recipe_yaml), "--run-dir", str(run_dir.path)]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 3/3") == 1  # rank 0 alone prints
    assert sorted(losses_of(run_dir)) == [1, 2, 3]
    assert read_json(run_dir.environment_json)["ranks"] == 2


def start_agent(run_dir: RunDir, port: int, *options: str) -> subprocess.Popen[bytes]:
    """Start torchrun as on one of two machines, with one rank."""
    command = ["torch.distributed.run", "--nproc-per-node=1", "--rdzv-backend=c10d"]
    command += [f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=run", *options]
    command += ["-m", "tunesmith.run", str(run_dir.path)]
    with run_dir.log.open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", *command], stdout=log, stderr=log)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("", 0))
        return int(taken.getsockname()[1])


@pytest.mark.long
def test_two_agents_of_torchrun_carry_out_one_run(make: Callable[..., RunDir]) -> None:
    quick = {"training": {"max_steps": 4}, "evaluation": QUIET}
    one, two = make("no-agent", **quick), make("agents", strategy=ddp(), **quick)
    alone = start_run(one)
    port = free_port()
    agents = [start_agent(two, port, "--nnodes=2") for _ in range(2)]
    assert alone.wait(TIMEOUT_S) == 0
    assert [agent.wait(TIMEOUT_S) for agent in agents] == [0, 0], logs_of(two)
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-4)
    assert read_json(two.environment_json)["ranks"] == 2


@pytest.mark.skipif(os.environ.get("TUNESMITH_AGENTS") != "all", reason="TUNESMITH_AGENTS=all")
@pytest.mark.parametrize("is_elastic", [False, True], ids=["fixed", "elastic"])
def test_an_agent_that_dies_ends_the_run_or_leaves_it_to_the_other(
    make: Callable[..., RunDir], *, is_elastic: bool
) -> None:
    run_dir = make(f"dies-{is_elastic}", strategy=ddp(), evaluation=QUIET)
    options = ["--nnodes=1:2", "--max-restarts=3"] if is_elastic else ["--nnodes=2"]
    port = free_port()
    first = start_agent(run_dir, port, *options)  # the store of the meeting is in this one
    time.sleep(3)
    second = start_agent(run_dir, port, *options)
    wait_for_step(run_dir, first, 6)
    assert read_json(run_dir.environment_json)["ranks"] == 2
    second.kill()
    second.wait()
    code = first.wait(TIMEOUT_S)
    if is_elastic:
        assert code == 0, logs_of(run_dir)
        assert (
            read_json(run_dir.result_json)["steps"] == read_json(run_dir.plan_json)["total_steps"]
        )
        assert read_json(run_dir.environment_json)["ranks"] == 2  # as it was begun
        return
    assert code == 1, logs_of(run_dir)
    (error,) = errors_of(run_dir)
    assert error["exit_code"] == 3
    assert start_run(run_dir).wait(TIMEOUT_S) == 0  # goes on from the checkpoint


@pytest.mark.parametrize(
    ("strategy", "method"),
    [
        ("fsdp", {"type": "full"}),
        pytest.param("deepspeed", {"type": "full"}, marks=pytest.mark.long),
        pytest.param("deepspeed", {"type": "dora", "rank": 4}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_what_spread_weights_save_is_whole(
    make: Callable[..., RunDir], strategy: str, method: dict[str, Any]
) -> None:
    spread = {"type": strategy, "processes": 2}
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
        spread["zero"] = 3
    else:
        spread["checkpoints"] = "parts"
    name = method["type"]
    parts = {"method": method, "model": {"dtype": "fp32"}, "training": {"max_steps": 4}}
    one = make(f"whole-{name}-{strategy}", **parts)
    several = make(f"spread-{name}-{strategy}", strategy=spread, **parts)
    for run_dir in (one, several):
        assert start_run(run_dir).wait(TIMEOUT_S) == 0, logs_of(run_dir)
    assert losses_of(several) == pytest.approx(losses_of(one), rel=1e-4)
    ours, theirs = weights_of(several), weights_of(one)
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }
    assert all(ours[key].allclose(theirs[key], atol=1e-3) for key in ours)
    assert not any((ours[key] == 0).all() for key in ours)
    first, last = read_json(one.evaluation_json), read_json(several.evaluation_json)
    for when in ("before", "after"):
        assert last[when]["loss"] == pytest.approx(first[when]["loss"], rel=1e-4)
    counts = [read_json(run_dir.result_json)["trainable_parameters"] for run_dir in (one, several)]
    assert counts[0] == counts[1] > 0
    assert len(read_json(several.result_json)["peak_memory_bytes_of_ranks"]) == 2
    newest = list_checkpoints(several.checkpoints)[-1]
    kept = open_tensors(newest, "trained")
    assert isinstance(kept, Joined) == (strategy == "fsdp")
    if name == "full":
        assert all(kept[key].equal(value) for key, value in ours.items() if key in kept)
        assert ours.keys() & kept.keys()
    texts = [load(str(path)).model.state_dict() for path in (newest, several.path)]
    assert all(texts[0][key].allclose(texts[1][key], atol=1e-6) for key in texts[1])
