"""Rows without answers through a run's own process: the command, stopped at any instant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny_run import TIMEOUT_S, make_model_folder, make_rows, make_run, start_run
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.inference.predict_request import PredictRequest
from tunesmith.predict import predict

NUM_ROWS = 160


def make_labelled(file: Path, task: str) -> list[dict[str, Any]]:
    """Write rows of a task, and return them."""
    rows: list[dict[str, Any]] = []
    for number in range(60):
        name = "ab"[number % 2]
        tags = ["B-N", "O", "I-N"] if number % 2 else ["O", "O", "B-N"]
        rows.append(
            {"tokens": [name, "said", str(number)], "tags": tags}
            if task == "ner"
            else {"text": f"{'x ' * (number % 5)}{name} {number}", "label": f"is {name}"}
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture(name="run_dir", scope="module")
def run_fixture(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("predict")
    model = make_model_folder(folder / "model")
    rows = make_rows(folder / "rows.jsonl", NUM_ROWS)
    training = {"max_steps": 4, "learning_rate": 5e-3, "tokens_per_step": 256}
    evaluation = {"prompts": 5, "max_new_tokens": 12}
    run_dir = make_run(
        folder / "run", model, rows, training=training, evaluation=evaluation,
        model={"source": str(model), "dtype": "fp32"},
    )  # fmt: skip
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    return run_dir


@pytest.fixture(name="asked", scope="module")
def asked_fixture(run_dir: RunDir) -> Path:
    """The run's own rows, without their last turns."""
    rows = run_dir.path.parent / "rows.jsonl"
    file = run_dir.path.parent / "asked" / "rows.jsonl"
    file.parent.mkdir()
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    turns = [{"messages": line["messages"][:-1]} for line in lines]
    file.write_text("".join(json.dumps(line) + "\n" for line in turns))
    return file


@pytest.fixture(name="whole", scope="module")
def whole_fixture(run_dir: RunDir, asked: Path) -> Path:
    """The answers of a process that was never stopped."""
    file = run_dir.path.parent / "whole.jsonl"
    finish(start(run_dir, asked, file))
    return file


def start(
    run_dir: RunDir, asked: Path, output: Path, *words: str, batch_tokens: int = 12
) -> subprocess.Popen[str]:
    """Start the command; by default with few rows at once, so that there is time to stop it."""
    settings = ("--input", asked, "--output", output, "--batch-tokens", str(batch_tokens))
    return subprocess.Popen(
        [sys.executable, "-m", "tunesmith", "predict", str(run_dir.path), *settings, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], exit_code: int = 0) -> tuple[str, str]:
    """Wait for the end; return what was printed on standard output and error."""
    printed = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == exit_code, printed
    return printed


def wait_for_lines(file: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if file.exists() and file.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)
    raise AssertionError(f"{count} answers were not seen: {process.communicate()}")


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_the_answers_are_those_of_the_runs_own_evaluation(run_dir: RunDir, whole: Path) -> None:
    evaluated = read_json(run_dir.evaluation_json)["after"]["answers"]
    answers = {line["row_id"]: line["answer"] for line in lines_of(whole)}
    assert list(answers) == [f"rows.jsonl:{number + 1}" for number in range(NUM_ROWS)]
    assert len(evaluated) == 5
    for one in evaluated:
        assert answers[one["row_id"]] == one["text"]


def test_answers_that_are_there_change_nothing_but_the_reference(
    run_dir: RunDir, whole: Path, tmp_path: Path
) -> None:
    rows = run_dir.path.parent / "rows.jsonl"
    process = start(run_dir, rows, tmp_path / "a.jsonl", "--json", batch_tokens=8192)
    printed, _ = finish(process)
    assert json.loads(printed)["rows"] == NUM_ROWS
    for line, bare in zip(lines_of(tmp_path / "a.jsonl"), lines_of(whole), strict=True):
        assert line.pop("reference").startswith("answer ")
        assert line == bare


def test_killed_or_interrupted_and_resumed_makes_the_same_file(
    run_dir: RunDir, asked: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.jsonl"
    process = start(run_dir, asked, output)
    wait_for_lines(output, NUM_ROWS // 4, process)
    os.killpg(process.pid, signal.SIGKILL)  # the command and its process, as a power cut does
    finish(process, -signal.SIGKILL)
    killed = output.read_bytes()
    assert killed.count(b"\n") < NUM_ROWS
    output.write_bytes(killed[:-7])

    process = start(run_dir, asked, output, "--resume")
    wait_for_lines(output, NUM_ROWS // 2, process)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C at a terminal
    _, said = finish(process, 130)
    assert "--resume goes on" in said
    assert "Traceback" not in said

    finish(start(run_dir, asked, output, "--resume"))
    assert output.read_bytes() == whole.read_bytes()


def test_sigterm_ends_the_process_behind_the_command(
    run_dir: RunDir, asked: Path, whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.jsonl"
    process = start(run_dir, asked, output)
    wait_for_lines(output, 10, process)
    process.terminate()
    finish(process, 75)
    there = output.read_bytes()
    assert whole.read_bytes().startswith(there)
    time.sleep(0.2)
    assert output.read_bytes() == there, "nobody goes on writing"


@pytest.mark.parametrize(
    ("task", "has_head"), [("classification", True), ("ner", True), ("classification", False)]
)
def test_answers_of_a_task_are_those_of_the_runs_own_evaluation(
    tmp_path: Path, task: str, has_head: bool
) -> None:
    model = make_model_folder(tmp_path / "model")
    rows = tmp_path / "rows.jsonl"
    labelled = make_labelled(rows, task)
    run_dir = make_run(
        tmp_path / "run", model, rows, task={"type": task, "head": has_head},
        model={"source": str(model), "dtype": "fp32"},
        training={"max_steps": 8, "learning_rate": 5e-3},
    )  # fmt: skip
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    asked = tmp_path / "asked" / "rows.jsonl"
    asked.parent.mkdir()
    kept = "tokens" if task == "ner" else "text"
    asked.write_text("".join(json.dumps({kept: row[kept]}) + "\n" for row in labelled))
    output = tmp_path / "answers.jsonl"
    request = PredictRequest(what=str(run_dir.path), input=str(asked), output=str(output))
    assert predict(request, tell=lambda _: None).refused == 0
    lines = {line["row_id"]: line for line in lines_of(output)}
    assert len(lines) == len(labelled)
    evaluated = lines_of(run_dir.path / "predictions" / "after.jsonl")
    assert len(evaluated) > 5
    for one in evaluated:
        line = lines[one["row_id"]]
        assert one["said"] == (line["tags"] if task == "ner" else [line["answer"]])
