"""Runs whose ranks another launcher starts: mpirun and srun where there are any, and a stand-in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
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
)
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, RunState, describe_status

STAND_IN = (sys.executable, "-m", "tests.fakes.launcher")
TRAIN = (sys.executable, "-m", "tunesmith", "train")
TWO_RANKS = {"type": "ddp", "processes": 2}
QUIET = {"before": False, "after": False}
SLURM_JOB = f"tunesmith-test-{os.getpid()}"
LORA = {"type": "lora", "rank": 4}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("launchers")
    model, data = make_model_folder(folder / "model"), make_rows(folder / "rows.jsonl", 60)
    return lambda name, **parts: make_run(
        folder / name, model, data, method=LORA, evaluation=QUIET, **parts
    )


def launch(launcher: Sequence[str], run_dir: RunDir, *resume: str) -> subprocess.Popen[bytes]:
    """Start a run, or go on with it, as two ranks of a launcher."""
    with run_dir.log.open("ab") as log:
        return subprocess.Popen(
            [*launcher, *TRAIN, *resume, "--run-dir", str(run_dir.path)], stdout=log, stderr=log
        )


def state_of(run_dir: RunDir) -> RunState:
    state = run_dir.read_state()
    assert state is not None
    return state


def wait_for_end(run_dir: RunDir) -> RunState:
    """Wait for the end of a run whose launcher may be gone before it."""
    deadline = time.monotonic() + TIMEOUT_S
    while describe_status(run_dir.read_state()) == "running":
        assert time.monotonic() < deadline, logs_of(run_dir)
        time.sleep(0.05)
    return state_of(run_dir)


def stop(launcher: Sequence[str], run_dir: RunDir) -> None:
    """Stop a run after its second step; the step in which it is asked is saved."""
    process = launch(launcher, run_dir, "--resume")
    wait_for_step(run_dir, process, 2)
    if launcher[0] == "srun":  # which itself ends all by SIGKILL when it is asked to end
        subprocess.run(["scancel", "--name", SLURM_JOB], check=True)
    else:
        process.send_signal(signal.SIGTERM)
    process.wait(TIMEOUT_S)
    state = wait_for_end(run_dir)
    assert state.status == "stopped", logs_of(run_dir)
    assert (run_dir.checkpoints / f"step-{state.step}").is_dir()


def kill_rank_1(launcher: Sequence[str], run_dir: RunDir) -> None:
    """End a rank two steps further on: all end, and rank 0 tells why."""
    process = launch(launcher, run_dir, "--resume")
    wait_for_step(run_dir, process, state_of(run_dir).step + 2)
    second = state_of(run_dir.of_rank(1))
    assert second.pid is not None
    psutil.Process(second.pid).kill()
    assert process.wait(TIMEOUT_S) == 3, logs_of(run_dir)
    assert wait_for_end(run_dir).status == "failed"
    (error,) = [e for e in read_events(run_dir.events_jsonl) if e["type"] == "error"]
    assert (error["code"], error["exit_code"]) == ("rank_died", 3)
    assert "rank 1 ended by signal 9" in error["faults"][0]["found"]


@pytest.mark.long
def test_a_launcher_that_gives_a_second_loses_no_step_and_no_reason(
    make: Callable[..., RunDir],
) -> None:
    # A step of all rows takes longer than the launcher waits.
    training = {"tokens_per_step": 8192, "micro_batch_tokens": 40, "epochs": 40}
    run_dir = make("stand-in", strategy=TWO_RANKS, training={**training, "checkpoint_every": 100})
    stop(STAND_IN, run_dir)
    kill_rank_1(STAND_IN, run_dir)


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Sequence[str]:
    """The command of a launcher, where it is here and starts processes."""
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    command = [name, "-n", "2"]
    if name == "mpirun" and b"Open MPI" in subprocess.check_output([name, "--version"]):
        command.append("--oversubscribe")
        command += ["--allow-run-as-root"] if os.geteuid() == 0 else []
    if name == "srun":
        command += ["--immediate=10", f"--job-name={SLURM_JOB}"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"{name} starts nothing here: {tried.stderr.strip()}")
    return command


@pytest.mark.long
@pytest.mark.parametrize("real", ["mpirun", "srun"], indirect=True)
def test_a_real_launchers_ranks_however_stopped_end_like_one(
    make: Callable[..., RunDir], real: Sequence[str], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    settings: dict[str, Any] = {"training": {"epochs": 4, "micro_batch_tokens": 90}}
    one, run_dir = make(f"one-{name}", **settings), make(name, strategy=TWO_RANKS, **settings)
    alone = start_run(one)
    stop(real, run_dir)
    kill_rank_1(real, run_dir)
    assert launch(real, run_dir, "--resume").wait(TIMEOUT_S) == 0, logs_of(run_dir)
    assert alone.wait(TIMEOUT_S) == 0
    assert losses_of(run_dir) == pytest.approx(losses_of(one), rel=1e-4)
    assert state_of(run_dir).status == "succeeded"
