import json
import os
import time
from pathlib import Path

import pytest

from tunesmith.cli.main import main
from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir, RunState, write_json
from tunesmith.recipe.load import load_recipe, resolved

LEAST = {"model": "tiny", "task": "chat", "data": {"train": "a.jsonl"}}
DEAD = 2**22 + 1


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(name: str, status: str = "succeeded", *, pid: int = DEAD, age: float = 0.0) -> RunDir:
    run_dir = RunDir.create(Path("runs") / name)
    write_json(run_dir.resolved_json, resolved(load_recipe(LEAST)))
    values = {"pid": pid, "heartbeat": time.time() - age, "step": 4, "total_steps": 8}
    run_dir.write_state(RunState(status=status, **values))
    if status == "succeeded":
        sides = {"before": {"loss": 3.0, "metrics": {}}, "after": {"loss": 1.5, "metrics": {}}}
        write_json(run_dir.evaluation_json, sides)
    return run_dir


def test_without_runs_the_list_says_how_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list"]) == 0
    assert "tunesmith quickstart" in capsys.readouterr().out


def test_the_list_has_the_latest_first_with_status_steps_and_loss(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_run("old", age=100)
    make_run("killed", "running", age=50)
    make_run("going", "running", pid=os.getpid())
    assert main(["runs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:3] for line in lines] == [
        ["going", "running", "4/8"],
        ["killed", "interrupted", "4/8"],
        ["old", "succeeded", "4/8"],
    ]
    assert "3.000 -> 1.500" in lines[2]


def test_the_list_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("one")
    assert main(["runs", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["name"], row["status"], row["loss_after"]) == ("one", "succeeded", 1.5)


def test_a_damaged_run_does_not_spoil_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("good")
    make_run("bad").state_json.write_text("{")
    make_run("odd").evaluation_json.write_text('{"before": {"metrics": {"a": 3}}}')
    assert main(["runs", "list"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("damaged") == 2
    assert "good" in printed


def test_a_run_is_shown_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("one")
    assert main(["runs", "show", "one"]) == 0
    printed = capsys.readouterr().out
    for words in ("succeeded at step 4/8", "lora, rank 16", "3 epochs", "3.0000  1.5000"):
        assert words in printed


def test_an_interrupted_run_is_shown_with_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("one", "running")
    assert main(["runs", "show", "runs/one"]) == 0
    assert "tunesmith train --resume --run-dir runs/one" in capsys.readouterr().out


def test_a_run_as_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("one")
    assert main(["runs", "show", "one", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == "succeeded"
    assert document["recipe"]["method"]["rank"] == 16


def test_a_run_that_is_not_there_is_a_users_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "none"]) == 2
    assert "tunesmith runs list" in capsys.readouterr().err


def test_following_an_ended_run_shows_its_events_and_how_it_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with EventLog(make_run("one").events_jsonl) as log:
        log.write("note", message="hello")
        log.write("step", 1, total_steps=8, loss=1.0)
    assert main(["runs", "follow", "one"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "hello"
    assert "step 1/8" in printed
    assert "the run is over: succeeded" in printed


def test_ctrl_c_while_following_leaves_the_run_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run("one", "running", pid=os.getpid())

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.cli.runs.show_events", interrupt)
    assert main(["runs", "follow", "one"]) == 0
    assert "the run goes on" in capsys.readouterr().out
    assert run_dir.read_state().status == "running"
