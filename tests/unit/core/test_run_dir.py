import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunesmith.core.errors import MachineError, RunError, UserError
from tunesmith.core.run_dir import (
    RunDir,
    RunState,
    clear_half_written,
    describe_status,
    is_alive,
    read_json,
    write_bytes,
    write_json,
)


def state(**changes: object) -> RunState:
    values = {
        "status": "running",
        "pid": os.getpid(),
        "heartbeat": time.time(),
        "step": 3,
        "total_steps": 9,
    }
    return RunState(**{**values, **changes})


def test_create_makes_the_folder_and_its_parents(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "a" / "b")
    assert run_dir.path.is_dir()


def test_create_accepts_an_empty_folder(tmp_path: Path) -> None:
    assert RunDir.create(tmp_path).path == tmp_path


def test_create_refuses_an_existing_run_and_names_its_status(tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path / "run")
    write_json(run_dir.resolved_json, {})
    run_dir.write_state(state(status="succeeded"))
    with pytest.raises(
        MachineError, match=r"existing|exists already \(status: succeeded\)"
    ) as error:
        RunDir.create(run_dir.path)
    assert "--resume" in error.value.faults[0].fix
    assert error.value.code == "run_exists"


def test_create_refuses_a_folder_with_other_files_and_leaves_them(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(MachineError, match="not empty and is not a run"):
        RunDir.create(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_create_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(MachineError, match="a file, where the run's folder should be"):
        RunDir.create(tmp_path / "run")


def test_create_below_a_file_says_why_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be made"):
        RunDir.create(tmp_path / "file" / "run")


def test_open_wants_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        RunDir.open(tmp_path / "none")
    with pytest.raises(UserError, match=r"no resolved\.json"):
        RunDir.open(tmp_path)


def test_open_of_the_folder_above_names_a_run_inside(tmp_path: Path) -> None:
    write_json(RunDir.create(tmp_path / "runs" / "one").resolved_json, {})
    with pytest.raises(UserError) as error:
        RunDir.open(tmp_path / "runs")
    assert str(tmp_path / "runs" / "one") in error.value.faults[0].fix


def test_a_state_is_read_back_as_written(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    assert run_dir.read_state() is None
    written = state(message="going", error_code="x")
    run_dir.write_state(written)
    assert run_dir.read_state() == written


def test_a_state_with_more_fields_than_known_is_read(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.write_state(state())
    content = {**read_json(run_dir.state_json), "host": "elsewhere"}
    write_json(run_dir.state_json, content)
    assert run_dir.read_state().step == 3


def test_writing_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    write_json(tmp_path / "a.json", {"a": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 2}


def test_a_full_disk_keeps_the_old_file_and_says_no_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="the disk is full") as error:
        write_json(path, {"step": 2})
    assert error.value.code == "no_space"
    assert str(path) in error.value.faults[0].where
    assert read_json(path) == {"step": 1}
    assert [child.name for child in tmp_path.iterdir()] == ["state.json"]


def test_a_folder_that_is_gone_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        write_bytes(tmp_path / "gone" / "state.json", b"")
    assert error.value.code == "cannot_write"


def test_broken_json_is_a_fault_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a":')
    with pytest.raises(UserError, match="no valid JSON") as error:
        read_json(tmp_path / "a.json")
    assert error.value.faults[0].where == str(tmp_path / "a.json")
    with pytest.raises(UserError):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("text", "word"),
    [("pause", "pause"), ("cancel\n", "cancel"), ("stop", None), ("", None)],
)
def test_control_takes_two_words(tmp_path: Path, text: str, word: str | None) -> None:
    run_dir = RunDir(tmp_path)
    assert run_dir.read_control() is None
    run_dir.control.write_text(text)
    assert run_dir.read_control() == word


def test_a_run_on_another_machine_goes_on_while_it_is_heard_of() -> None:
    assert describe_status(state(host="elsewhere")) == "running"
    assert not is_alive(state(host="elsewhere"))  # its number is another process here
    assert describe_status(state(host="elsewhere", heartbeat=time.time() - 900)) == "interrupted"


def test_a_running_process_is_alive() -> None:
    assert is_alive(state())
    assert describe_status(state()) == "running"


def test_a_dead_process_makes_its_run_interrupted() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert describe_status(state(pid=child.pid)) == "interrupted"
    assert describe_status(state(pid=None)) == "interrupted"


def test_a_process_that_nobody_has_waited_for_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    until = time.time() + 10
    while is_alive(state(pid=child.pid)) and time.time() < until:
        time.sleep(0.02)
    assert not is_alive(state(pid=child.pid))
    child.wait()


def test_another_process_with_the_same_number_is_not_the_run() -> None:
    assert not is_alive(state(heartbeat=time.time() - 10**7))


def test_an_ended_state_keeps_its_status() -> None:
    assert describe_status(state(status="failed", pid=None)) == "failed"
    assert describe_status(None) == "not started"


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [f".plan.json.{gone.pid}.tmp", f".plan.json.{os.getpid()}.tmp", "plan.json", "own.tmp"]
    (tmp_path / "charts").mkdir()
    for name in (*names, f"charts/.loss.png.{gone.pid}.tmp"):
        (tmp_path / name).write_text("{}")
    clear_half_written(tmp_path)
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(names[1:])
