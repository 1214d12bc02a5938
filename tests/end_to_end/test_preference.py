"""Preference runs from the recipe to the report; stopped and resumed equals never stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.long_cases import long
from tests.fakes.tiny_preference import make_pair_rows, make_rated_rows
from tests.fakes.tiny_run import (
    TIMEOUT_S,
    losses_of,
    make_model_folder,
    make_run,
    start_run,
    wait_for_step,
    weights_of,
)
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json

TRAINING = {"epochs": 2, "tokens_per_step": 512, "checkpoint_every": 2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dpo": ({"type": "preference", "loss": "dpo"}, {}),
    "dpo-full": ({"type": "preference", "loss": "dpo"}, {"method": "full"}),
    "orpo": ({"type": "preference", "loss": "orpo"}, {}),
    "simpo": ({"type": "preference", "loss": "simpo"}, {}),
    "kto": ({"type": "preference", "loss": "kto"}, {}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preference")
    make_model_folder(folder / "model")
    make_pair_rows(folder / "pairs.jsonl", 40)
    make_rated_rows(folder / "rated.jsonl", 60)
    return folder


def make(folder: Path, name: str, case: str, data: str = "pairs.jsonl", **training: Any) -> RunDir:
    task, parts = CASES[case]
    training = {**TRAINING, **training}
    return make_run(
        folder / name, folder / "model", folder / data, task=task, training=training, **parts
    )


def finish(run_dir: RunDir) -> RunDir:
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    return run_dir


def kill_after(run_dir: RunDir, step: int) -> None:
    process = start_run(run_dir)
    wait_for_step(run_dir, process, step)
    assert process.poll() is None, run_dir.log.read_text()
    process.kill()
    process.wait()


@pytest.mark.parametrize("case", ["dpo", *long(name for name in CASES if name != "dpo")])
def test_a_run_learns_says_so_and_goes_on_after_a_kill(folder: Path, case: str) -> None:
    whole = finish(make(folder, f"whole-{case}", case))
    killed = make(folder, f"killed-{case}", case)
    kill_after(killed, 3)
    finish(killed)
    assert losses_of(killed) == losses_of(whole)
    if case != "dpo-full":
        ours, theirs = weights_of(killed), weights_of(whole)
        assert all(ours[name].equal(theirs[name]) for name in theirs)
    sides, result = read_json(whole.evaluation_json), read_json(whole.result_json)
    assert read_json(killed.evaluation_json)["after"]["loss"] == sides["after"]["loss"]
    assert sides["after"]["loss"] < sides["before"]["loss"]
    margins = [sides[when]["preference"]["reward_margin"] for when in ("before", "after")]
    assert margins[1] > margins[0]
    assert result["preference_after"]["reward_margin"] == margins[1]
    assert result["task_metrics_after"]["preference-accuracy"]["rows"] > 0
    (answer,) = sides["after"]["answers"]
    assert answer["reference"].startswith("yes "), answer
    assert "preference-accuracy" in whole.report_md.read_text()
    assert "reward margin" in whole.report_html.read_text()
    steps = [event for event in read_events(whole.events_jsonl) if event["type"] == "step"]
    assert {"reward_margin", "reward_accuracy", "chosen_log_prob"} <= steps[0].keys()
    if case.startswith("dpo"):
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
        assert sides["before"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert sides["before"]["preference"]["reward_accuracy"] == 0.5


def test_a_tiny_preference_is_learned(folder: Path) -> None:
    run_dir = finish(make(folder, "learned", "dpo", epochs=8, learning_rate=5e-3))
    sides = read_json(run_dir.evaluation_json)
    steps = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "step"]
    assert steps[0]["reward_accuracy"] < 0.9
    assert steps[-1]["reward_accuracy"] == 1.0
    assert sides["after"]["preference"]["reward_accuracy"] > 0.9
    assert sides["after"]["loss"] < 0.3


def test_kto_learns_from_rated_answers(folder: Path) -> None:
    run_dir = finish(make(folder, "rated", "kto", "rated.jsonl", epochs=6, learning_rate=5e-3))
    sides = read_json(run_dir.evaluation_json)
    assert sides["after"]["loss"] < sides["before"]["loss"]
    assert sides["after"]["preference"]["reward_accuracy"] > 0.8


def test_pairs_are_asked_for_before_a_model_is_loaded(folder: Path) -> None:
    run_dir = make(folder, "refused", "dpo", "rated.jsonl")
    assert start_run(run_dir).wait(TIMEOUT_S) == 2
    errors = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]
    assert "dpo learns from pairs" in errors[-1]["faults"][0]["found"]
    assert "task.loss: kto" in errors[-1]["faults"][0]["fix"]


def test_kto_needs_answers_of_both_kinds(folder: Path) -> None:
    make_rated_rows(folder / "good.jsonl", 20, bad_every=1000)
    lines = (folder / "good.jsonl").read_text().splitlines(keepends=True)
    (folder / "good.jsonl").write_text("".join(line for line in lines if '"label": true' in line))
    run_dir = make(folder, "one-kind", "kto", "good.jsonl")
    assert start_run(run_dir).wait(TIMEOUT_S) == 2
    errors = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "error"]
    assert "answers are rated good; kto learns from both" in errors[-1]["faults"][0]["found"]
