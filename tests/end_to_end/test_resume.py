"""Invariant 6: however a run was stopped, going on gives the numbers of never having stopped."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.tiny_run import (
    TIMEOUT_S,
    assert_same_run,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    wait_for_step,
)
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("resume")
    model = make_model_folder(folder / "model")
    data = make_rows(folder / "rows.jsonl", 80)

    def make_named(name: str, **parts: dict[str, object]) -> RunDir:
        return make_run(folder / name, model, data, **parts)

    return make_named


@pytest.fixture(scope="module")
def never_stopped(make: Callable[..., RunDir]) -> RunDir:
    run_dir = make("never-stopped")
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    return run_dir


def test_killed_at_any_instant_and_resumed_equals_never_stopped(
    make: Callable[..., RunDir], never_stopped: RunDir
) -> None:
    run_dir = make("killed")
    chance = random.Random(0)
    total = read_json(never_stopped.plan_json)["total_steps"]
    assert total >= 12
    for step in (2, total // 3, 2 * total // 3, total - 1):
        process = start_run(run_dir)
        wait_for_step(run_dir, process, step)
        time.sleep(chance.random() * 0.1)
        process.kill()
        process.wait()
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, never_stopped)


@pytest.mark.parametrize(
    ("request_stop", "exit_code"),
    [
        pytest.param(
            lambda _, process: process.send_signal(signal.SIGINT), 130, marks=pytest.mark.long
        ),
        (lambda _, process: process.send_signal(signal.SIGTERM), 75),
        pytest.param(
            lambda run_dir, _: run_dir.control.write_text("pause"), 75, marks=pytest.mark.long
        ),
    ],
    ids=["SIGINT", "SIGTERM", "control"],
)
def test_asked_to_stop_it_saves_says_so_and_goes_on_the_same(
    make: Callable[..., RunDir],
    never_stopped: RunDir,
    request: pytest.FixtureRequest,
    request_stop: Callable[[RunDir, subprocess.Popen[bytes]], None],
    exit_code: int,
) -> None:
    run_dir = make(f"asked-{request.node.callspec.id}")
    process = start_run(run_dir)
    wait_for_step(run_dir, process, 3)
    request_stop(run_dir, process)
    assert process.wait(30) == exit_code, run_dir.log.read_text()
    state = run_dir.read_state()
    assert state is not None
    assert state.status == "stopped"
    assert (run_dir.checkpoints / f"step-{state.step}").is_dir()
    assert not run_dir.final.exists()
    assert not run_dir.result_json.exists()
    run_dir.control.unlink(missing_ok=True)
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, never_stopped)


def test_a_damaged_checkpoint_costs_steps_and_changes_nothing(
    make: Callable[..., RunDir], never_stopped: RunDir
) -> None:
    run_dir = make("damaged")
    process = start_run(run_dir)
    wait_for_step(run_dir, process, 9)
    process.kill()
    process.wait()
    newest = max(run_dir.checkpoints.iterdir(), key=lambda path: path.stat().st_mtime)
    weights = newest / "trained.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, never_stopped)


def test_changed_data_is_refused_on_resume(make: Callable[..., RunDir], tmp_path: Path) -> None:
    run_dir = make("changed")
    process = start_run(run_dir)
    wait_for_step(run_dir, process, 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    resolved = read_json(run_dir.resolved_json)
    resolved["recipe"]["data"]["train"] = str(make_rows(tmp_path / "other.jsonl", 81))
    run_dir.resolved_json.write_text(json.dumps(resolved))
    assert start_run(run_dir).wait(TIMEOUT_S) == 2
    (error,) = [e for e in read_events(run_dir.events_jsonl) if e["type"] == "error"]
    assert error["code"] == "run_changed"
    assert "data sha256 changed" in error["faults"][0]["found"]
