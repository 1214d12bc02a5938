"""A run with a head, whole: stopped and resumed like never stopped, refused where it should be."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.architectures import save_encoder
from tests.fakes.long_cases import long
from tests.fakes.tiny_run import (
    TIMEOUT_S,
    assert_same_run,
    make_model_folder,
    make_run,
    start_run,
    wait_for_step,
)
from tunesmith.cli.next_commands import next_commands
from tunesmith.core.errors import ModelError
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.export.merged import merge
from tunesmith.inference.loading import load
from tunesmith.inference.predict_request import PredictRequest
from tunesmith.predict import predict


def make_labelled(file: Path, task: str) -> Path:
    rows: list[dict[str, Any]] = []
    for number in range(60):
        name = "ab"[number % 2]
        filler = "x " * (number % 5)
        match task:
            case "classification":
                rows.append({"text": f"{filler}{name} {number}", "label": f"is {name}"})
            case "ner":
                tags = ["B-N", "O", "I-N"] if number % 2 else ["O", "O", "B-N"]
                rows.append({"tokens": [name, "said", str(number)], "tags": tags})
            case _:
                context = f"{filler}the {name} is {number}"
                answers = [str(number)] if number % 5 else []
                rows.append({"question": "which?", "context": context, "answers": answers})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def run_of(folder: Path, model: Path, rows: Path, task: str, name: str) -> RunDir:
    head = {"type": task, "head": True}
    data: dict[str, Any] = {"validation": "20%"}
    if task == "qa":  # contexts of more tokens are read in windows
        data |= {"max_length": 16, "overflow": "chunk", "stride": 4}
    return make_run(folder / name, model, rows, task=head, data=data)


ASKED: dict[str, dict[str, Any]] = {
    "classification": {"text": "x x a 3"},
    "ner": {"tokens": ["a", "said", "3"]},
    "qa": {"question": "which?", "context": "the a is 3"},
}


def assert_predicts(run_dir: RunDir, folder: Path, task: str) -> None:
    """A row without its answer gets one, in the task's own form."""
    output = folder / "answers.jsonl"
    request = PredictRequest(
        what=str(run_dir.path), input=str(folder / "asked.jsonl"), output=str(output)
    )
    predict(request, tell=lambda _: None)
    line = json.loads(output.read_text())
    assert "reference" not in line
    match task:
        case "classification":
            assert line["answer"] in ("is a", "is b")
            assert sum(line["scores"].values()) == pytest.approx(1.0, abs=1e-4)
        case "ner":
            assert len(line["tags"]) == 3
            assert all(one["words"] for one in line["answer"])
        case _:
            assert load(str(run_dir.path)).headed.head.abstains  # pyright: ignore[reportOptionalMemberAccess]
            after = read_json(run_dir.evaluation_json)["after"]
            side = read_json(run_dir.xray_json)["sides"]["validation"]
            assert after["metrics"]["squad-f1"]["rows"] == after["rows"] == side["rows"]
            assert side["rows_too_long"] > 2
            assert (side["rows_cut"], side["rows_left_out"]) == (0, 0)
            context = ASKED["qa"]["context"]
            is_none = line["start"] is None
            assert is_none == (line["answer"] == "")
            assert is_none or context[line["start"] :].startswith(line["answer"])
            assert 0 < line["score"] <= 1


@pytest.mark.parametrize("task", ["classification", *long(["ner", "qa"])])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, task: str) -> None:
    model = make_model_folder(tmp_path / "model")
    rows = make_labelled(tmp_path / "rows.jsonl", task)
    whole = run_of(tmp_path, model, rows, task, "whole")
    assert start_run(whole).wait(TIMEOUT_S) == 0, whole.log.read_text()
    stopped = run_of(tmp_path, model, rows, task, "stopped")
    process = start_run(stopped)
    wait_for_step(stopped, process, 5)
    process.send_signal(signal.SIGKILL)
    process.wait(TIMEOUT_S)
    assert start_run(stopped).wait(TIMEOUT_S) == 0, stopped.log.read_text()
    assert_same_run(whole, stopped)
    result = read_json(whole.result_json)
    assert result["validation_loss_after"] < result["validation_loss_before"]
    confusion = read_json(whole.evaluation_json)["after"].get("confusion")
    assert (confusion and confusion["labels"]) == (
        ["is a", "is b"] if task == "classification" else None
    )
    assert ("Classes taken for others" in whole.report_md.read_text()) == bool(confusion)
    loaded = load(str(whole.path))
    assert loaded.headed is not None
    with pytest.raises(ModelError, match="writes no text"):
        loaded.require_writer()
    assert merge(str(whole.path), tmp_path / "merged")["head"]["kind"] == loaded.headed.head.kind
    assert "talk to it" not in next_commands(whole)
    assert "make it one folder" in next_commands(whole)
    (tmp_path / "asked.jsonl").write_text(json.dumps(ASKED[task]) + "\n")
    assert_predicts(whole, tmp_path, task)
    checkpoints = sorted(whole.checkpoints.glob("step-*"))
    assert load(str(checkpoints[-1])).headed is not None


def test_an_encoder_learns_classes(tmp_path: Path) -> None:
    model = save_encoder(tmp_path / "model", "bert")
    rows = make_labelled(tmp_path / "rows.jsonl", "classification")
    run_dir = run_of(tmp_path, model, rows, "classification", "run")
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    config = read_json(run_dir.final / "adapter_config.json")
    assert config["task_type"] == "SEQ_CLS"
    assert read_json(run_dir.final / "head.json")["labels"] == ["is a", "is b"]
