"""A disk that turns read-only, or full, in the middle of a run: told, and nothing is lost.

The disk is a real one, in a file; where none may be mounted the tests are skipped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.failing_disk import FailingDisk
from tests.fakes.forked_run import Instant, run_forked
from tests.fakes.long_cases import long
from tests.fakes.tiny_run import (
    TIMEOUT_S,
    logs_of,
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    wait_for_step,
    weights_of,
)
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir
from tunesmith.training.checkpoint import find_newest

TRAINING = {"epochs": 2, "checkpoint_every": 2, "micro_batch_tokens": 90}
QUIET = {"before": False, "after": False}
TOLD = {
    "read-only": ("read-only file system", "that its disk is mounted for writing"),
    "full": ("the disk is full", "free some space"),
}
FAILS_AT = (
    Instant("save checkpoints/.step-4.tmp/optimizer.safetensors", 1),
    Instant("rename checkpoints/step-4", 1),
    Instant("save .final.tmp/adapter_model.safetensors", 1),
)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on a good disk, with a model and rows."""
    folder = tmp_path_factory.mktemp("elsewhere")
    make_model_folder(folder / "model")
    make_rows(folder / "rows.jsonl", 30)
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Generator[FailingDisk]:
    made = FailingDisk(tmp_path / "disk.img", tmp_path / "disk")
    made.make()
    yield made
    made.drop()


@pytest.fixture(scope="module")
def never_stopped(elsewhere: Path) -> RunDir:
    run_dir = make(elsewhere, elsewhere / "never-stopped")
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    return run_dir


def make(elsewhere: Path, folder: Path, **parts: Any) -> RunDir:
    return make_run(
        folder,
        elsewhere / "model",
        elsewhere / "rows.jsonl",
        training=TRAINING,
        evaluation=QUIET,
        method={"type": "lora", "rank": 4},  # no dropout: it depends on the number of ranks
        **parts,
    )


def assert_ends_like(run_dir: RunDir, reference: RunDir) -> None:
    """No step is missing, and losses and weights are the same, bit for bit."""
    assert losses_of(run_dir) == losses_of(reference)
    ours, theirs = weights_of(run_dir), weights_of(reference)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)


def train(run_dir: RunDir) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tunesmith", "train", "--resume", "--run-dir"]
    return subprocess.Popen(
        [*command, str(run_dir.path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("instant", [FAILS_AT[0], *long(FAILS_AT[1:])], ids=str)
def test_what_was_saved_is_whole_and_the_run_goes_on_from_it(
    elsewhere: Path, never_stopped: RunDir, disk: FailingDisk, instant: Instant
) -> None:
    run_dir = make(elsewhere, disk.folder / "run")
    assert run_forked(run_dir, at=instant, die=disk.turn_read_only) != 0
    disk.mend()
    newest = find_newest(run_dir.checkpoints)
    assert newest is not None
    assert newest.name == "step-2" or "final" in instant.what
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    assert_ends_like(run_dir, never_stopped)
    assert not list(run_dir.path.rglob(".*.tmp"))


@pytest.mark.parametrize(
    "case", [(1, "read-only"), *long([(2, "read-only"), (1, "full"), (2, "full")])], ids=str
)
def test_the_user_is_told_what_the_disk_is_and_how_to_go_on(
    elsewhere: Path, never_stopped: RunDir, disk: FailingDisk, case: tuple[int, str]
) -> None:
    processes, how = case
    several = {"strategy": {"type": "ddp", "processes": processes}} if processes > 1 else {}
    run_dir = make(elsewhere, disk.folder / "run", **several)
    process = train(run_dir)
    wait_for_step(run_dir, process, 3)
    disk.fill() if how == "full" else disk.turn_read_only()
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 3, errors
    found, fix = TOLD[how]
    assert found in errors
    assert fix in errors
    assert "resume" in errors
    assert "Traceback" not in errors
    disk.mend()
    made = losses_of(run_dir)
    assert made
    process = train(run_dir)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors + logs_of(run_dir)
    if processes == 1:
        assert_ends_like(run_dir, never_stopped)
    assert losses_of(run_dir) == pytest.approx(losses_of(never_stopped), rel=1e-4)
    first = next(e for e in read_events(run_dir.events_jsonl) if e.get("status") == "resumed")
    assert first["step"] >= 2
