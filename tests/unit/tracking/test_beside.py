"""Trackers beside a run: each may fail, hang or be absent; it is told, in a bounded time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.core.run_dir import RunDir, disk_error
from tunesmith.core.stopping import StopRequests
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.tracking import TrackingPart
from tunesmith.tracking.beside import Trackers, log_of, start_trackers

HANGS = "import time; print('waiting for the network', flush=True); time.sleep(600)"
FAILS = "print('connection refused'); raise SystemExit(7)"
READS = "import sys; sys.stdin.read()"
RECIPE = {"model": "m", "task": "chat", "data": {"train": "rows.jsonl"}}


@dataclass
class Told:
    texts: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        self.texts.append(text)


def begin(folder: Path, told: Told, script: str, wait_s: float = 30) -> Trackers:
    part = TrackingPart(to=("mlflow",), wait_s=wait_s)
    command = {"mlflow": (sys.executable, "-c", script)}
    return start_trackers(part, RunDir(folder), told.warn, command)


def test_one_that_hangs_is_ended_after_the_wait_with_all_it_started(tmp_path: Path) -> None:
    told = Told()
    script = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {HANGS!r}]); " + HANGS
    )
    trackers = begin(tmp_path, told, script, wait_s=1)
    process = psutil.Process(trackers.going["mlflow"].pid)
    deadline = time.monotonic() + 20
    while log_of(RunDir(tmp_path), "mlflow").read_text().count("\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = [process, *process.children(recursive=True)]
    assert len(family) == 2
    trackers.look()
    assert told.texts == []
    started = time.monotonic()
    trackers.finish()
    assert 1 <= time.monotonic() - started < 5
    assert "mlflow had not ended 1 s after the run, and was ended" in told.texts[0]
    assert "waiting for the network" in told.texts[0]
    psutil.wait_procs(family, timeout=5)
    assert not any(member.is_running() and member.status() != "zombie" for member in family)


def test_one_that_nobody_waits_for_is_ended_at_once(tmp_path: Path) -> None:
    told = Told()
    trackers = begin(tmp_path, told, HANGS, wait_s=60)
    process = trackers.going["mlflow"]
    while not log_of(RunDir(tmp_path), "mlflow").read_text():
        time.sleep(0.02)
    started = time.monotonic()
    stop = StopRequests(RunDir(tmp_path))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop.listen()
        with stop.after_the_run() as nobody_waits:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            trackers.finish(nobody_waits=nobody_waits)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert time.monotonic() - started < 20
    assert process.poll() == -signal.SIGKILL
    (text,) = told.texts
    assert "mlflow had not ended after the run, and you did not wait for it" in text
    assert not stop.is_asked()


def test_one_that_fails_is_told_once_while_the_run_goes_on(tmp_path: Path) -> None:
    told = Told()
    trackers = begin(tmp_path, told, FAILS)
    trackers.going["mlflow"].wait(20)
    trackers.look()
    trackers.look()
    trackers.finish()
    (text,) = told.texts
    assert "mlflow has ended (exit code 7): connection refused" in text
    assert f"tunesmith track {tmp_path} --to mlflow" in text


def test_one_that_ends_with_the_run_is_no_matter(tmp_path: Path) -> None:
    told = Told()
    trackers = begin(tmp_path, told, READS)
    started = time.monotonic()
    trackers.finish()
    assert told.texts == []
    assert time.monotonic() - started < 20


def test_one_that_is_not_installed_is_told_and_the_others_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told()
    monkeypatch.setattr("tunesmith.tracking.tracker.find_spec", lambda _: None)
    part = TrackingPart(to=("wandb", "mlflow"), wait_s=30)
    command = {"mlflow": (sys.executable, "-c", READS)}
    trackers = start_trackers(part, RunDir(tmp_path), told.warn, command)
    assert list(trackers.going) == ["mlflow"]
    trackers.finish()
    (text,) = told.texts
    assert "wandb is not installed" in text
    assert "pip install 'tunesmith[wandb]'" in text


def test_a_folder_that_takes_no_log_and_no_word_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "tracking").write_text("in the way")

    def full(_: str) -> None:
        raise disk_error(tmp_path, OSError(28, "No space left on device"))

    part = TrackingPart(to=("tensorboard",))
    trackers = start_trackers(part, RunDir(tmp_path), full)
    assert trackers.going == {}


def test_a_killed_run_takes_its_trackers_along(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.unit.tracking.test_beside import READS, Told, begin\n"
        "print(begin(Path(sys.argv[1]), Told(), READS).going['mlflow'].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    killed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    pid = int(killed.stdout)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < deadline, "the tracker goes on without its run"
        time.sleep(0.05)


@pytest.mark.parametrize("given", ["tensorboard", ["tensorboard"], {"to": ["tensorboard"]}])
def test_a_recipe_names_its_trackers_in_a_word_a_list_or_a_part(given: object) -> None:
    loaded = load_recipe({**RECIPE, "tracking": given})
    assert loaded.recipe.tracking == TrackingPart(to=("tensorboard",))


def test_a_tracker_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe({**RECIPE, "tracking": ["mlflow", "tensorbord"]})
    (fault,) = caught.value.faults
    assert "tracking.to[1] is the text 'tensorbord'" in fault.found
    assert "did you mean tensorboard?" in fault.fix
