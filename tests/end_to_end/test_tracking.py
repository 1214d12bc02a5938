"""Runs with trackers of their recipe: one takes the numbers, one fails, one hangs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.forked_run import run_forked
from tests.fakes.tiny_run import assert_same_run, losses_of, make_model_folder, make_rows, make_run
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir
from tunesmith.tracking import beside

BROKEN = {
    "mlflow": (sys.executable, "-c", "import time; time.sleep(600)"),
    "wandb": (sys.executable, "-c", "raise SystemExit('no such host')"),
}


def break_trackers() -> None:
    """Put one that hangs and one that fails in the place of the real ones."""
    beside._command = lambda _, name: BROKEN[name]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("tracking")
    model, rows = make_model_folder(folder / "model"), make_rows(folder / "rows.jsonl", 16)
    training = {"epochs": 1}
    return lambda name, **parts: make_run(folder / name, model, rows, training=training, **parts)


@pytest.fixture(scope="module")
def alone(make: Callable[..., RunDir]) -> RunDir:
    run_dir = make("alone")
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    return run_dir


def warnings_of(run_dir: RunDir) -> list[Any]:
    events = read_events(run_dir.events_jsonl)
    return [event["message"] for event in events if event["type"] == "warning"]


def test_a_run_whose_trackers_hang_and_fail_ends_as_without_them(
    make: Callable[..., RunDir], alone: RunDir
) -> None:
    run_dir = make("broken", tracking={"to": ["mlflow", "wandb"], "wait_s": 1})
    assert run_forked(run_dir, prepare=break_trackers) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, alone)
    failed, hung = sorted(warnings_of(run_dir), key=lambda text: "mlflow" in text)
    assert "wandb has ended (exit code 1): no such host" in failed
    assert "mlflow had not ended 1 s after the run, and was ended" in hung
    state = run_dir.read_state()
    assert state is not None
    assert state.status == "succeeded"


def test_a_real_tracker_is_told_all_steps(make: Callable[..., RunDir], alone: RunDir) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir = make("tracked", tracking={"to": "tensorboard", "wait_s": 60})
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, alone)
    assert warnings_of(run_dir) == []
    shown = EventAccumulator(str(run_dir.path / "tracking" / "tensorboard"))
    shown.Reload()
    told = {it.step: it.value for it in shown.Scalars("train/loss")}
    assert told == pytest.approx(losses_of(run_dir), rel=1e-6)
