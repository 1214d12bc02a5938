from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.core.run_dir import RunDir, RunState, write_json
from tunesmith.evaluation.matrix.measured import Side, Value, main_metric, read_measured

SCORE = {"value": 0.8, "low": 0.7, "high": 0.9, "rows": 50, "details": {}, "signature": "x"}


def make_run(folder: Path, evaluation: dict[str, Any] | None) -> RunDir:
    run_dir = RunDir.create(folder)
    write_json(
        run_dir.result_json,
        {
            "trainable_parameters": 5,
            "total_parameters": 10,
            "tokens_per_second": 12.5,
            "artifacts": {
                "adapter_model.safetensors": {"bytes": 100},
                "head.safetensors": {"bytes": 20},
                "tokenizer.json": {"bytes": 5000},
            },
        },
    )
    write_json(run_dir.environment_json, {"tunesmith": "1.2", "dtype": "bf16", "packages": {}})
    state = RunState(status="succeeded", pid=None, heartbeat=0.0, step=1, total_steps=1)
    run_dir.write_state(state)
    if evaluation is not None:
        write_json(run_dir.evaluation_json, evaluation)
    return run_dir


def test_a_finished_run_gives_both_sides_the_difference_and_the_costs(tmp_path: Path) -> None:
    sides = {
        "before": {"loss": 3.0, "rows": 50, "metrics": {"accuracy": {"value": 0.1, "rows": 50}}},
        "after": {"loss": 1.0, "rows": 50, "metrics": {"accuracy": SCORE}},
        "differences": {"accuracy": {"value": 0.7, "low": 0.6, "high": 0.8, "rows": 50}},
    }
    measured = read_measured(make_run(tmp_path / "run", sides))
    assert (measured.before.loss, measured.after.loss) == (3.0, 1.0)
    assert measured.after.metrics["accuracy"] == Value(value=0.8, low=0.7, high=0.9, rows=50)
    assert measured.before.metrics["accuracy"].low is None
    assert measured.differences["accuracy"].value == 0.7
    assert measured.trainable_parameters == 5
    assert measured.weights_bytes == 120
    assert (measured.tunesmith, measured.dtype) == ("1.2", "bf16")
    assert measured.finished == "1970-01-01T00:00:00+00:00"


def test_what_was_not_measured_is_none(tmp_path: Path) -> None:
    measured = read_measured(make_run(tmp_path / "run", None))
    assert measured.before == measured.after == Side()
    assert measured.peak_memory_bytes is None


def test_the_main_score_is_the_first_that_is_no_probe() -> None:
    one = Value(value=0.5)
    assert main_metric(Side(metrics={"general-probe": one, "bleu": one, "chrf": one})) == "bleu"
    assert main_metric(Side(metrics={"general-probe": one})) is None
