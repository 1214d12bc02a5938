"""A disk of its own for a run: filled up in the middle, full before, and mounted for reading only.

The disk is a real one, in memory; where none may be mounted the tests are skipped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.forked_run import Instant, run_forked
from tests.fakes.tiny_run import assert_same_run, losses_of, make_model_folder, make_rows, make_run
from tunesmith.cli.main import main
from tunesmith.core.errors import MachineError
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir
from tunesmith.core.run_lock import hold_run
from tunesmith.training.checkpoint import find_newest

DISK_BYTES = 40_000_000
FILLER = "filler"
# Room for what is said of it, and for less than an adapter.
LOG_BYTES = 16_384
TRAINING = {"epochs": 1, "checkpoint_every": 2}
# In the middle of a checkpoint, where the one before it is there, and in that of the final folder.
FILLED_AT = (
    Instant("save checkpoints/.step-4.tmp/optimizer.safetensors", 1),
    Instant("save .final.tmp/adapter_model.safetensors", 1),
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no program `mount` here")
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")
    make_rows(folder / "rows.jsonl", 16)
    make_model_folder(folder / "model")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def never_stopped(disk: Path) -> RunDir:
    run_dir = make(disk, "never-stopped")
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    return run_dir


def make(disk: Path, name: str, **parts: Any) -> RunDir:
    rows = disk / "rows.jsonl"
    return make_run(disk / name, disk / "model", rows, training=TRAINING, **parts)


def fill(disk: Path, *, leave: int = 0) -> None:
    """Take all room of a disk but so many bytes."""
    with (disk / FILLER).open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 4096)
        except OSError:
            file.truncate(max(0, file.tell() - leave))


@pytest.mark.parametrize("instant", FILLED_AT, ids=str)
def test_a_disk_that_fills_up_ends_the_run_which_goes_on_with_room(
    disk: Path, never_stopped: RunDir, instant: Instant
) -> None:
    run_dir = make(disk, f"full-{FILLED_AT.index(instant)}")
    try:
        code = run_forked(run_dir, at=instant, die=partial(fill, disk, leave=LOG_BYTES))
        assert (disk / FILLER).exists(), f"{instant} was not reached: {run_dir.log.read_text()}"
    finally:
        (disk / FILLER).unlink(missing_ok=True)
    log = run_dir.log.read_text()
    assert code == 3, log
    assert "no space: the disk is full" in log
    assert "a fault in Tunesmith itself" not in log
    damaged: list[str] = []
    newest = find_newest(run_dir.checkpoints, tell=damaged.append)
    assert newest is not None
    assert damaged == []
    assert not list(run_dir.path.rglob("*.tmp"))
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, never_stopped)


def test_a_disk_that_cannot_hold_what_is_saved_is_refused_before_the_first_step(
    disk: Path, never_stopped: RunDir
) -> None:
    run_dir = make(disk, "too-small")
    try:
        fill(disk, leave=1_000_000)
        code = run_forked(run_dir)
    finally:
        (disk / FILLER).unlink(missing_ok=True)
    assert code == 2, run_dir.log.read_text()
    (error,) = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]
    assert error["code"] == "no_space"
    assert "a checkpoint and the final folder need" in error["faults"][0]["found"]
    assert losses_of(run_dir) == {}
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, never_stopped)


def test_a_disk_for_reading_only_takes_no_run_and_keeps_the_one_it_has(
    disk: Path, never_stopped: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make(disk, "read-only")
    assert run_forked(run_dir, at=Instant("rename checkpoints/step-4", 1)) < 0
    several = make(disk, "several", strategy={"type": "ddp", "processes": 2})
    remount(disk, "ro")
    try:
        before = content_of(run_dir)
        assert main(["train", str(run_dir.recipe_yaml), "--run-dir", str(disk / "new")]) == 2
        new = capsys.readouterr().err
        assert main(["train", "--resume", "--run-dir", str(run_dir.path)]) == 2
        resumed = capsys.readouterr().err
        launcher = [sys.executable, "-m", "tunesmith.launch", str(several.path)]
        started = subprocess.run(launcher, capture_output=True, text=True, check=False)
        with pytest.raises(MachineError, match="read-only file system"), hold_run(run_dir):
            pass
        assert content_of(run_dir) == before
    finally:
        remount(disk, "rw")
    assert "the run folder cannot be made: read-only file system" in new
    assert "read-only file system" in resumed
    assert "check the folder's permissions and that its disk is mounted for writing" in resumed
    assert (started.returncode, "read-only file system" in started.stderr) == (3, True)
    assert "Traceback" not in started.stderr
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    assert_same_run(run_dir, never_stopped)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def content_of(run_dir: RunDir) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run_dir.path.rglob("*") if path.is_file()}
