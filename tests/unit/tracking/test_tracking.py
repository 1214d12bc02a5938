"""Trackers read a run's folder: what they are told, and what becomes of one that fails."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from tunesmith.cli import track as verb
from tunesmith.cli.main import main
from tunesmith.core.errors import RunError
from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir, RunState, write_json
from tunesmith.tracking.export import export_run
from tunesmith.tracking.numbers import Numbers, numbers_of, settings_of
from tunesmith.tracking.to_wandb import WandbRun
from tunesmith.tracking.tracker import LIBRARIES, TrackedRun


@dataclass
class Kept:
    """A tracker that keeps what it is told."""

    run: TrackedRun
    logged: list[Numbers] = field(default_factory=list)
    succeeded: bool | None = None

    def log(self, numbers: Numbers) -> None:
        self.logged.append(numbers)

    def end(self, *, succeeded: bool) -> str:
        self.succeeded = succeeded
        return "kept"


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path / "desk")
    run_dir.path.mkdir()
    recipe = {"model": {"source": "m", "revision": None}, "training": {"learning_rate": 2e-4}}
    write_json(run_dir.resolved_json, {"recipe": recipe, "origins": {}})
    with EventLog(run_dir.events_jsonl) as events:
        events.write("note", message="hello")
        events.write("evaluation", 0, when="before", loss=3.0, metrics={"bleu": {"value": 0.5}})
        events.write("step", 1, loss=2.5, learning_rate=1e-4, total_steps=2)
        events.write("step", 2, loss=2.0, learning_rate=0.0, total_steps=2)
    state = {"pid": os.getpid(), "heartbeat": time.time(), "step": 2, "total_steps": 2}
    run_dir.write_state(RunState(status="succeeded", **state))
    return run_dir


def test_a_finished_run_is_told_whole(run_dir: RunDir) -> None:
    trackers: list[Kept] = []

    def begin(_: object, run: TrackedRun) -> Kept:
        trackers.append(Kept(run))
        return trackers[0]

    assert export_run(run_dir, "tensorboard", project="p", begin=begin) == "kept"
    (kept,) = trackers
    assert kept.succeeded
    assert (kept.run.name, kept.run.project) == ("desk", "p")
    assert kept.run.settings == {"model.source": "m", "training.learning_rate": "0.0002"}
    assert [numbers.step for numbers in kept.logged] == [0, 1, 2]
    assert kept.logged[0].values == {"evaluation/loss": 3.0, "evaluation/bleu": 0.5}
    assert kept.logged[1].values["train/loss"] == 2.5


def test_events_without_numbers_are_passed_over() -> None:
    assert numbers_of({"type": "note", "time": "2026-01-01T00:00:00Z", "step": 1}) is None
    assert numbers_of({"type": "step", "time": "2026-01-01T00:00:00Z", "step": None}) is None
    assert settings_of({"a": {"b": None, "c": False}}) == {"a.c": "False"}


def test_a_tracker_that_fails_says_so_and_leaves_the_run_as_it_was(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> str:
        raise ConnectionError("no such host")

    before = {path: path.read_bytes() for path in run_dir.path.rglob("*") if path.is_file()}
    monkeypatch.setattr(verb, "export_run", fails)
    monkeypatch.setattr(verb, "require_library", lambda _: None)
    assert main(["track", str(run_dir.path), "--to", "mlflow"]) == 3
    printed = capsys.readouterr().err
    assert "mlflow failed: ConnectionError: no such host" in printed
    assert {path: path.read_bytes() for path in run_dir.path.rglob("*") if path.is_file()} == before


def test_a_library_that_is_absent_is_named_with_its_extra(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tunesmith.tracking.tracker.find_spec", lambda _: None)
    assert main(["track", str(run_dir.path), "--to", "wandb"]) == 2
    assert "pip install 'tunesmith[wandb]'" in capsys.readouterr().err


@dataclass
class OfflineRun:
    """A run of wandb's whose disk takes so many bytes."""

    file: Path
    room: int
    id: str = "x"

    def log(self, values: dict[str, float]) -> None:
        """Take values."""

    def finish(self, *, exit_code: int) -> None:
        """Write what fits."""
        assert exit_code == 0
        self.file.parent.mkdir(parents=True)
        self.file.write_bytes(b"0" * self.room)


def test_numbers_that_wandb_could_not_keep_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.tracking.to_wandb.WRITTEN_WITHIN_S", 0.1)
    for room, is_told in ((0, True), (1000, False)):
        folder = tmp_path / str(room)
        run = WandbRun(OfflineRun(folder / "wandb" / "offline-run-x" / "run-x.wandb", room), folder)
        run.log(Numbers(step=1, at=0.0, values={"train/loss": 2.0}))
        with pytest.raises(RunError, match="wrote 0 bytes") if is_told else nullcontext():
            run.end(succeeded=True)


@pytest.fixture(scope="module")
def trackio_store(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Trackio's store for all tests: the library looks for it once, when it is imported."""
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("trackio")
        patched.setenv("TRACKIO_DIR", str(folder))
        yield folder


@pytest.mark.usefixtures("trackio_store")
@pytest.mark.filterwarnings("default")
def test_numbers_that_trackio_could_not_keep_are_told(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("trackio") is None:
        pytest.skip("trackio is an extra that is not installed")
    from trackio.sqlite_storage import SQLiteStorage

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SQLiteStorage, "bulk_log", full)
    with pytest.raises(RunError, match="the store holds 0 of the"):
        export_run(run_dir, "trackio", project="full")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", list(LIBRARIES))
def test_the_real_library_takes_a_run(
    run_dir: RunDir, name: str, monkeypatch: pytest.MonkeyPatch, trackio_store: Path
) -> None:
    if find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"{name} is an extra that is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    export_run(run_dir, name, project="tests")
    folder = run_dir.path / "tracking" / name
    if name == "trackio":
        assert any(trackio_store.rglob("*"))
    else:
        assert any(path.is_file() for path in folder.rglob("*"))
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(folder))
        read.Reload()
        assert [(it.step, it.value) for it in read.Scalars("train/loss")] == [(1, 2.5), (2, 2.0)]
    if name == "trackio":
        from trackio.sqlite_storage import SQLiteStorage

        logs = SQLiteStorage.get_logs("tests", run_dir.path.name)
        told = [(it["step"], it["train/loss"]) for it in logs if "train/loss" in it]
        assert told == [(1, 2.5), (2, 2.0)]
    if name == "wandb":
        (written,) = folder.rglob("*.wandb")
        assert written.read_bytes().count(b"train/loss") >= 2
    if name == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient(folder.as_uri())
        experiment = client.get_experiment_by_name("tests")
        (run,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert [(it.step, it.value) for it in history] == [(1, 2.5), (2, 2.0)]
        assert json.loads(run.data.params["training.learning_rate"]) == 2e-4
