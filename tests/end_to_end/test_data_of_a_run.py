"""A run and its data: what is left out is listed, the X-ray is kept, rows are found again."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny_run import make_model_folder, make_rows, make_run, start_run
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def carry_out(run_dir: RunDir) -> int:
    return start_run(run_dir).wait(timeout=120)


def messages_of(run_dir: RunDir) -> list[str]:
    return [event.get("message", "") for event in read_events(run_dir.events_jsonl)]


def short(**data: Any) -> dict[str, Any]:
    return {"training": {"max_steps": 2, "checkpoint_every": 2}, "data": data}


def test_rows_that_are_left_out_are_counted_and_listed(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "rows.jsonl", 30)
    with rows.open("a") as file:
        file.write('{"messages": []}\nno json\n')
    model = make_model_folder(tmp_path / "model")
    run_dir = make_run(tmp_path / "run", model, rows, **short(on_bad_row="drop"))
    assert carry_out(run_dir) == 0, run_dir.log.read_text()
    lines = (run_dir.path / "dropped.jsonl").read_text().splitlines()
    dropped = [json.loads(line) for line in lines]
    assert [row["row_id"] for row in dropped] == ["rows.jsonl:31", "rows.jsonl:32"]
    result = read_json(run_dir.path / "result.json")
    assert result["rows_dropped"] == {"empty messages": 1, "not JSON": 1}
    xray = read_json(run_dir.xray_json)
    assert xray["sides"]["train"]["rows"] + xray["sides"]["validation"]["rows"] == 30
    assert xray["serving"]["same"] == xray["serving"]["rows"] == 3
    assert "<html" in run_dir.xray_html.read_text()


def test_a_second_run_finds_its_rows_ready(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "rows.jsonl", 30)
    model = make_model_folder(tmp_path / "model")
    runs = [make_run(tmp_path / name, model, rows, **short()) for name in ("one", "two")]
    assert [carry_out(run_dir) for run_dir in runs] == [0, 0]
    assert "rows.jsonl: cache miss: not prepared before" in messages_of(runs[0])
    assert "rows.jsonl: cache hit, the rows are ready" in messages_of(runs[1])
    first, second = (read_json(run.environment_json)["data_sha256"] for run in runs)
    assert first == second


def test_a_run_that_would_train_on_little_stops_with_the_reason(tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "rows.jsonl", 30)
    silent = {"role": "assistant", "content": "x", "weight": 0}
    with rows.open("a") as file:
        for number in range(3):
            question = {"role": "user", "content": f"silent {number}"}
            file.write(json.dumps({"messages": [question, silent]}) + "\n")
    model = make_model_folder(tmp_path / "model")
    run_dir = make_run(tmp_path / "run", model, rows, **short(validation=str(rows)))
    assert carry_out(run_dir) == 2
    (error,) = [e for e in read_events(run_dir.events_jsonl) if e["type"] == "error"]
    assert "no token to train in 3 of 33 training rows" in error["faults"][0]["found"]
    assert run_dir.xray_html.is_file()  # where one sees why
    assert not run_dir.final.exists()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("source", "data", "words"),
    [
        ("banking77/train.csv", {}, "classification"),
        ("multi30k/train.{en,de}", {}, "translation"),
        ("wnut17/wnut17train.conll", {}, "ner"),
        ("xquad/xquad.en.json", {"overflow": "drop"}, "qa"),
        ("demo/identity.json", {}, "alpaca"),
        (
            "gsm8k/train.jsonl",
            {"columns": {"prompt": "question", "completion": "answer"}},
            "prompt",
        ),
        ("nottingham", {"overflow": "chunk"}, "text"),
    ],
)
def test_real_data_sets_are_trained_on(
    tmp_path: Path, source: str, data: dict[str, Any], words: str
) -> None:
    model = make_model_folder(tmp_path / "model")
    parts = short(limit=40, max_length=500, **{"overflow": "drop", **data})
    task = {"task": "completion"} if source == "nottingham" else {}
    run_dir = make_run(tmp_path / "run", model, SHARED / source, **parts, **task)
    assert carry_out(run_dir) == 0, run_dir.log.read_text()
    (told,) = [message for message in messages_of(run_dir) if message.startswith("data: ")]
    assert words in told


def test_a_file_of_several_megabytes_is_prepared_by_workers(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with rows.open("w") as file:
        for number in range(20_000):
            question = {"role": "user", "content": f"question {number} " + "word " * 70}
            answer = {"role": "assistant", "content": f"answer {number}"}
            file.write(json.dumps({"messages": [question, answer]}) + "\n")
    assert rows.stat().st_size > 8 * 2**20
    model = make_model_folder(tmp_path / "model")
    parts = {**short(), "evaluation": {"before": False, "rows": 20, "prompts": 0}}
    run_dir = make_run(tmp_path / "run", model, rows, **parts)
    process = start_run(run_dir)
    try:
        assert process.wait(timeout=120) == 0, run_dir.log.read_text()
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    (told,) = [message for message in messages_of(run_dir) if message.startswith("data: ")]
    trained, held_out = (
        int(word.replace(",", "")) for word in re.findall(r"\d[\d,]*(?= )", told)[:2]
    )
    assert trained + held_out == 20_000
