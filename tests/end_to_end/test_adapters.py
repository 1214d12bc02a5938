"""Adapters that go on: trained further, merged, and trained upon once they are merged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama
from tests.fakes.tiny_run import (
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    weights_of,
)
from tunesmith.cli.main import main
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.export.merged import merge
from tunesmith.inference.loading import load

TIMEOUT_S = 120
TOKENS = torch.arange(24).view(2, 12)


@pytest.fixture(name="model", scope="module")
def model_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_folder(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(name="rows", scope="module")
def rows_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 40)


@pytest.fixture(name="make", scope="module")
def make_fixture(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("runs")

    def make(name: str, model: Path, **method: Any) -> RunDir:
        training = {"max_steps": 6, "learning_rate": 5e-3}
        part = {"source": str(model), "dtype": "fp32"}
        return make_run(folder / name, model, rows, model=part, method=method, training=training)

    return make


@pytest.fixture(name="first", scope="module")
def first_fixture(make: Callable[..., RunDir], model: Path) -> RunDir:
    return carried_out(make("first", model))


def carried_out(run_dir: RunDir) -> RunDir:
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, run_dir.log.read_text()
    return run_dir


def loss(run_dir: RunDir, when: str) -> float:
    return read_json(run_dir.evaluation_json)[when]["loss"]


def said(run_dir: RunDir, kind: str) -> list[str]:
    return [e["message"] for e in read_events(run_dir.events_jsonl) if e["type"] == kind]


def logits_of(what: Path) -> torch.Tensor:
    with torch.no_grad():
        return load(str(what)).model(input_ids=TOKENS, use_cache=False).logits.float()


def test_a_run_goes_on_from_an_adapter_where_that_one_ended(
    make: Callable[..., RunDir], model: Path, first: RunDir
) -> None:
    run_dir = carried_out(make("second", model, adapter=str(first.path)))
    assert loss(run_dir, "before") == pytest.approx(loss(first, "after"), abs=1e-6)
    assert loss(run_dir, "after") < loss(run_dir, "before")
    ours, theirs = weights_of(run_dir), weights_of(first)
    assert ours.keys() == theirs.keys()
    assert all(value.shape == theirs[name].shape for name, value in ours.items())
    assert not any(value.equal(theirs[name]) for name, value in ours.items())
    assert any("going on from the adapter" in text for text in said(run_dir, "note"))
    assert not any("same weights" in text for text in said(run_dir, "warning"))


def test_a_run_that_goes_on_may_stop_and_resume(
    make: Callable[..., RunDir], model: Path, first: RunDir
) -> None:
    whole = carried_out(make("whole", model, adapter=str(first.path)))
    stopped = make("stopped", model, adapter=str(first.path))
    process = start_run(stopped)
    while not list(stopped.checkpoints.glob("step-4")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    carried_out(stopped)
    ours, theirs = weights_of(stopped), weights_of(whole)
    assert all(value.equal(theirs[name]) for name, value in ours.items())
    newest = max(stopped.checkpoints.glob("step-*"))
    assert torch.equal(logits_of(newest), logits_of(stopped.path))


def test_another_base_than_the_adapters_is_refused(
    make: Callable[..., RunDir], tmp_path: Path, first: RunDir
) -> None:
    other = make_tokenizer(tmp_path / "other")
    make_llama(vocab_size=len(load_tokenizer(other)), seed=7).save_pretrained(other)
    run_dir = make("other-base", other, adapter=str(first.path))
    assert start_run(run_dir).wait(TIMEOUT_S) == 2
    (error,) = [e for e in read_events(run_dir.events_jsonl) if e["type"] == "error"]
    assert error["code"] == "adapter_mismatch"


def test_a_second_adapter_is_trained_on_a_merged_first_and_merged_in_turn(
    make: Callable[..., RunDir], tmp_path: Path, first: RunDir
) -> None:
    assert main(["merge", str(first.path), "--output", str(tmp_path / "merged")]) == 0
    second = carried_out(make("on-merged", tmp_path / "merged"))
    assert loss(second, "before") == pytest.approx(loss(first, "after"), abs=1e-5)
    merge(str(second.path), tmp_path / "twice")
    torch.testing.assert_close(
        logits_of(tmp_path / "twice"), logits_of(second.path), atol=0.1, rtol=0.02
    )
    assert read_json(tmp_path / "twice" / "merge.json")["check"]["max_abs_diff"] < 1e-4


def test_a_save_that_will_fail_stops_the_run_before_step_1(
    make: Callable[..., RunDir], model: Path
) -> None:
    run_dir = make("no-save", model)
    (run_dir.path / ".rehearsal.tmp").write_text("a file in the way")
    assert start_run(run_dir).wait(TIMEOUT_S) == 3
    assert not losses_of(run_dir)
    assert not run_dir.final.exists()
