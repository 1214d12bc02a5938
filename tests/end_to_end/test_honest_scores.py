"""What a run says about its own scores: rows trained on, rows in both files, what was forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny_run import make_model_folder, make_run, start_run
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.evaluation.probe import read_probe
from tunesmith.evaluation.sides import read_said


def question(number: int) -> dict[str, Any]:
    choices = {f"yes {number}": 1, f"no {number * 7}": 0, "never": 0}
    return {"question": f"Is it {number * number}?", "choices": choices}


def write(file: Path, numbers: range) -> Path:
    file.write_text("".join(json.dumps(question(number)) + "\n" for number in numbers))
    return file


def finished(run_dir: RunDir) -> dict[str, Any]:
    process = start_run(run_dir)
    assert process.wait(timeout=120) == 0, run_dir.log.read_text()
    return read_json(run_dir.evaluation_json)


def test_a_run_shows_what_its_scores_are_worth(tmp_path: Path) -> None:
    model = make_model_folder(tmp_path / "model")
    run_dir = make_run(
        tmp_path / "run", model, write(tmp_path / "t.jsonl", range(24)),
        data={"validation": str(write(tmp_path / "v.jsonl", range(20, 30)))},
        evaluation={"probe": True, "trained_rows": 6},
        training={"epochs": 1},
    )  # fmt: skip
    sides = finished(run_dir)
    for when in ("before", "after"):
        scores = sides[when]["metrics"]
        assert list(scores) == ["mc1", "mc2", "general-probe"]
        assert scores["mc1"]["rows"] == 10
        assert scores["general-probe"]["rows"] == len(read_probe())
        assert sides["trained"][when]["metrics"]["mc2"]["rows"] == 6
        assert sides["without_trained"][when]["metrics"]["mc2"]["rows"] == 6
    assert sides["without_trained"]["also_trained"] == {"exact": 4, "near": 0}
    assert set(sides["differences"]) == {"mc1", "mc2", "general-probe"}
    assert set(sides["trained"]["differences"]) == {"mc1", "mc2"}
    said = read_said(run_dir, "after")
    kept = [row.values["mc2"] for row in said if int(row.row_id.split(":")[1]) > 4]
    without = sides["without_trained"]["after"]["metrics"]["mc2"]["value"]
    assert without == pytest.approx(sum(kept) / 6)
    assert len(read_said(run_dir, "before", "probe")) == len(read_probe())
    report = run_dir.report_md.read_text()
    assert "4 of 10 measured held-out rows" in report
    assert "no evidence of skill" in report
    assert "general questions" in report
    assert run_dir.report_html.read_text().count("How it was measured") == 1
