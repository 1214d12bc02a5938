"""Each method on each base, whole: stopped and resumed like never stopped, and talked to after."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.long_cases import long
from tests.fakes.tiny_run import (
    TIMEOUT_S,
    assert_same_run,
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    wait_for_step,
    weights_of,
)
from tunesmith.core.run_dir import RunDir, read_json

WAYS: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "pissa with LoRA+": {"method": {"type": "pissa", "rank": 4, "b_rate_factor": 4}},
    "qlora, recomputed": {
        "method": {"type": "qlora", "rank": 4},
        "training": {"activation_checkpointing": True},
    },
    "adalora on nf4": {"method": "adalora", "model": {"base": "nf4"}},
    "prefix-tuning": {
        "method": {"type": "prefix-tuning", "virtual_tokens": 4},
        "training": {"learning_rate": 0.02},
    },
}
DEFAULT = "qlora, recomputed"


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("methods")
    source = make_model_folder(folder / "model")
    data = make_rows(folder / "rows.jsonl", 40)

    def make_named(name: str, parts: dict[str, Any]) -> RunDir:
        model = {"source": str(source), **parts.get("model", {})}
        training = {"epochs": 2, "checkpoint_every": 4, **parts.get("training", {})}
        changes = {**parts, "model": model, "training": training}
        return make_run(folder / name, source, data, **changes)

    return make_named


@pytest.mark.parametrize("way", [DEFAULT, *long(name for name in WAYS if name != DEFAULT)])
def test_a_run_that_is_stopped_and_resumed_equals_one_that_never_was(
    make: Callable[..., RunDir], way: str
) -> None:
    whole = make(f"{way}-whole", WAYS[way])
    assert start_run(whole).wait(TIMEOUT_S) == 0, whole.log.read_text()
    losses = losses_of(whole)
    assert len(losses) >= 8
    evaluation = read_json(whole.evaluation_json)
    assert evaluation["after"]["loss"] < evaluation["before"]["loss"]
    assert all(tensor.isfinite().all() for tensor in weights_of(whole).values())

    stopped = make(f"{way}-stopped", WAYS[way])
    process = start_run(stopped)
    wait_for_step(stopped, process, 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75, stopped.log.read_text()
    assert start_run(stopped).wait(TIMEOUT_S) == 0, stopped.log.read_text()
    assert_same_run(stopped, whole)
