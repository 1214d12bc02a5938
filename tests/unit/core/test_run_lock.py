"""Two processes on one run folder: the second is refused, whatever became of the first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunesmith.core import run_lock
from tunesmith.core.errors import MachineError
from tunesmith.core.run_dir import RunDir
from tunesmith.core.run_lock import hold_run, is_held

HOLDER = """
import sys, time
from pathlib import Path
from tunesmith.core.run_dir import RunDir
from tunesmith.core.run_lock import hold_run
with hold_run(RunDir(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_process(folder: Path) -> Generator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.1)
    run_dir = RunDir(tmp_path)
    assert not is_held(run_dir)
    with another_process(tmp_path) as first:
        assert is_held(run_dir)
        with (
            pytest.raises(MachineError, match=rf"process {first.pid}") as caught,
            hold_run(run_dir),
        ):
            raise AssertionError("held twice")
    assert (caught.value.code, caught.value.exit_code) == ("run_active", 2)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    with another_process(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert not is_held(run_dir)
        with hold_run(run_dir):
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_child_that_lives_on_keeps_nothing(tmp_path: Path) -> None:
    forked = HOLDER.replace("    print(", "    import os\n    os.fork()\n    print(")
    argv = [sys.executable, "-c", forked, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as first:
        assert first.stdout is not None
        assert sorted(first.stdout.read(10)) == sorted("held\n" * 2)
        assert is_held(RunDir(tmp_path))
        first.kill()
        first.wait()
        assert not is_held(RunDir(tmp_path))
        os.killpg(first.pid, signal.SIGKILL)


def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(MachineError) as caught, hold_run(RunDir(tmp_path)):
        raise AssertionError("held")
    assert (caught.value.code, caught.value.exit_code) == ("cannot_write", 2)
    assert str(tmp_path) in caught.value.faults[0].where


def test_who_is_patient_waits_for_a_process_that_is_ending(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    with another_process(tmp_path) as first:
        timer = threading.Timer(0.2, first.kill)
        timer.start()
        assert is_held(run_dir)
        assert not is_held(run_dir, patience_s=20.0)
        timer.join()
