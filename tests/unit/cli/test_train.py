import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.cli import launch
from tunesmith.core.errors import RunError
from tunesmith.core.run_dir import RunDir

TUNESMITH = Path(__file__).with_name("tunesmith_with_fake_run.py")
ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
RECIPE = "model: smollm2-135m-instruct\ntask: chat\ndata: {train: rows.jsonl}\nx_team: blue\n"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = [
        {**ROW, "messages": [{"role": "user", "content": str(number)}, ROW["messages"][1]]}
        for number in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def tunesmith(folder: Path) -> Run:
    def run(*arguments: str, mode: str = "ok") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            env=environment(mode),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(TUNESMITH), *arguments]


def environment(mode: str) -> dict[str, str]:
    return {**os.environ, "FAKE_RUN": mode, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_run_ends_with_before_and_after_and_what_is_next(tunesmith: Run, folder: Path) -> None:
    finished = tunesmith("train", "recipe.yaml", "--run-dir", "out")
    assert finished.returncode == 0, finished.stderr
    for words in ("exact-match  ", "wanted  {", "out/report.md", "tunesmith chat out", "x_team"):
        assert words in finished.stdout + finished.stderr
    run_dir = RunDir.open(folder / "out")
    assert run_dir.recipe_yaml.read_text() == RECIPE
    content = json.loads(run_dir.resolved_json.read_text())
    assert content["recipe"]["data"]["train"] == str(folder / "rows.jsonl")
    assert content["origins"]["data.train"] == "file"
    assert run_dir.log.read_text() == "the log of the fake run\n"


def test_a_file_gets_one_line_a_step_without_carriage_returns(tunesmith: Run) -> None:
    printed = tunesmith("train", "recipe.yaml").stdout
    assert "\r" not in printed
    assert "\x1b" not in printed
    lines = [line for line in printed.splitlines() if " step " in line]
    assert len(lines) == 5
    assert all("loss" in line and "tokens/s" in line and "left" in line for line in lines)
    assert len(printed) < 20_000


def test_a_run_whose_reader_leaves_goes_on_to_its_end(folder: Path) -> None:
    line = " ".join(command("train", "recipe.yaml", "--run-dir", "out")) + " | head -n 1"
    finished = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env=environment("slow"),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert (folder / "out" / "result.json").exists()


def test_the_default_folder_has_the_recipes_name_and_two_runs_have_two(
    tunesmith: Run, folder: Path
) -> None:
    tunesmith("train", "recipe.yaml")
    tunesmith("train", "recipe.yaml")
    assert len(list((folder / "runs").glob("recipe-*/result.json"))) == 2


def test_json_is_one_document_and_progress_is_elsewhere(tunesmith: Run, folder: Path) -> None:
    finished = tunesmith("train", "recipe.yaml", "--json", "--run-dir", "out")
    document = json.loads(finished.stdout)
    assert document["run_dir"] == str(folder / "out")
    assert document["status"] == "succeeded"
    assert document["result"]["tokens"] == 5000
    assert "step 5/5" in finished.stderr


def test_overrides_reach_the_run(tunesmith: Run, folder: Path) -> None:
    tunesmith(
        "train",
        "recipe.yaml",
        "--run-dir",
        "out",
        "--set",
        "method.rank=2",
        "--set",
        "training.seed=9",
    )
    recipe = json.loads((folder / "out" / "resolved.json").read_text())["recipe"]
    assert (recipe["method"]["rank"], recipe["training"]["seed"]) == (2, 9)


@pytest.mark.parametrize(("mode", "code"), [("refuses", 2), ("fails", 3)])
def test_the_runs_own_error_and_exit_code_come_through(
    tunesmith: Run, mode: str, code: int
) -> None:
    finished = tunesmith("train", "recipe.yaml", mode=mode)
    assert finished.returncode == code
    assert "where: " in finished.stderr
    assert "Traceback" not in finished.stderr
    as_json = tunesmith("train", "recipe.yaml", "--json", mode=mode)
    error = json.loads(as_json.stdout)["error"]
    assert error["exit_code"] == as_json.returncode == code
    assert error["faults"][0]["fix"]


def test_a_process_that_dies_is_told_with_the_tail_of_its_log(tunesmith: Run, folder: Path) -> None:
    finished = tunesmith("train", "recipe.yaml", "--run-dir", "out", mode="crashes")
    assert finished.returncode == 3
    assert "ended with exit code 1, without a result" in finished.stderr
    assert "RuntimeError: something nobody foresaw" in finished.stderr
    assert str(folder / "out" / "log.txt") in finished.stderr


def test_a_process_that_could_not_write_its_reason_is_told_with_the_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "free_disk_bytes", lambda _: 0)
    run_dir = RunDir.create(tmp_path / "run")
    with pytest.raises(RunError, match="the disk is full, 0 bytes are free") as caught:
        launch.carry_out(run_dir, as_json=True, command=[sys.executable, "-c", "raise OSError"])
    assert caught.value.code == "no_space"
    assert "--resume" in caught.value.faults[0].fix


def test_a_process_that_is_killed_is_told_with_the_likely_reason(tunesmith: Run) -> None:
    finished = tunesmith("train", "recipe.yaml", mode="killed")
    assert finished.returncode == 3
    assert "signal 9" in finished.stderr
    assert "memory" in finished.stderr


def start_slow(folder: Path, mode: str = "slow", *, until_step: int = 1) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command("train", "recipe.yaml", "--run-dir", "out"),
        env=environment(mode),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.time() + 60
    state = None
    while state is None or state.step < until_step:
        assert time.time() < until
        time.sleep(0.02)
        state = RunDir(folder / "out").read_state()
    return process


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "stopped"), (signal.SIGTERM, 75, "paused")]
)
def test_a_stop_finishes_the_step_and_prints_how_to_go_on(
    tunesmith: Run, folder: Path, number: int, code: int, word: str
) -> None:
    process = start_slow(folder)
    process.send_signal(number)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert f"{word}; go on with: tunesmith train --resume --run-dir out" in printed
    assert RunDir(folder / "out").read_state().status == "stopped"
    resumed = tunesmith("train", "--resume", "--run-dir", "out")
    assert resumed.returncode == 0, resumed.stderr
    assert "step 5/5" in resumed.stdout


def test_a_second_ctrl_c_stops_at_once(folder: Path) -> None:
    process = start_slow(folder)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "--resume" in printed


def test_a_failure_to_save_when_asked_to_stop_is_told(folder: Path) -> None:
    process = start_slow(folder, "full")
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 3, printed + errors
    assert "the disk is full" in errors


@pytest.mark.parametrize(("mode", "times"), [("waits", 1), ("deaf", 2)])
def test_a_run_that_only_waits_for_a_tracker_is_whole(folder: Path, mode: str, times: int) -> None:
    process = start_slow(folder, mode, until_step=5)
    while RunDir(folder / "out").read_state().status != "succeeded":
        time.sleep(0.02)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    printed, errors = process.communicate(timeout=30)
    assert process.returncode == 0, printed + errors
    assert "the run itself has ended" in printed
    assert "stopping after this step" not in printed
    assert "What to do next" in printed


def test_a_run_folder_that_exists_is_refused(tunesmith: Run) -> None:
    tunesmith("train", "recipe.yaml", "--run-dir", "out")
    finished = tunesmith("train", "recipe.yaml", "--run-dir", "out")
    assert finished.returncode == 2
    assert "succeeded" in finished.stderr
    assert "--resume" in finished.stderr


def test_faults_of_model_and_data_come_together_and_before_any_folder(
    tunesmith: Run, folder: Path
) -> None:
    (folder / "rows.jsonl").write_text('{"messages": []}\n[1]\n')
    finished = tunesmith(
        "train", "recipe.yaml", "--run-dir", "out", "--set", "model=smollm2-135m-instrukt"
    )
    assert finished.returncode == 2
    assert "smollm2-135m-instruct" in finished.stderr
    assert "rows.jsonl:2" in finished.stderr
    assert not (folder / "out").exists()


def test_going_on_with_a_finished_run_shows_it_again(tunesmith: Run) -> None:
    tunesmith("train", "recipe.yaml", "--run-dir", "out")
    again = tunesmith("train", "out", "--resume")
    assert again.returncode == 0
    assert "nothing is left to do" in again.stderr
    assert "Before and after" in again.stdout


def test_going_on_forgets_an_old_request_to_stop(tunesmith: Run, folder: Path) -> None:
    tunesmith("train", "recipe.yaml", "--run-dir", "out", mode="killed")
    (folder / "out" / "control").write_text("pause")
    assert tunesmith("train", "--resume", "--run-dir", "out").returncode == 0
    assert not (folder / "out" / "control").exists()


def test_a_run_that_is_going_on_is_not_started_twice(tunesmith: Run, folder: Path) -> None:
    process = start_slow(folder)
    second = tunesmith("train", "--resume", "--run-dir", "out")
    assert second.returncode == 2
    assert "going on already" in second.stderr
    process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train"], "no recipe"),
        (["train", "--resume"], "no run to resume"),
        (["train", "recipe.yaml", "--resume"], "together with --resume"),
        (["train", "--resume", "--run-dir", "out", "--set", "training.seed=1"], "--set"),
        (["train", "--resume", "--run-dir", "none"], "no such folder"),
        (["train", "recpe.yaml"], "recipe.yaml"),
    ],
)
def test_a_wrong_call_is_a_users_fault(tunesmith: Run, arguments: list[str], words: str) -> None:
    finished = tunesmith(*arguments)
    assert finished.returncode == 2
    assert words in finished.stderr


def test_quickstart_needs_nothing_and_takes_few_steps_when_asked(
    tunesmith: Run, folder: Path
) -> None:
    finished = tunesmith("quickstart", "--run-dir", "out", "--steps", "3", "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["status"] == "succeeded"
    content = json.loads((folder / "out" / "resolved.json").read_text())
    assert content["recipe"]["training"]["max_steps"] == 3
    assert content["origins"]["training.max_steps"] == "flag"
    assert content["recipe"]["data"]["train"] == "sample:support-desk"
