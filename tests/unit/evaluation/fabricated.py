"""A finished run's folder, made up: as many files as a real one has, and no run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.recipe.load import load_recipe, resolved

RECIPE = """\
model: smollm2-135m-instruct
task: chat
data:
  train: sample:support-desk
  validation: sample:support-desk-held-out
method: {type: lora, rank: 16}
training: {learning_rate: 5e-4}
evaluation: {metrics: [json-match, exact-match, token-accuracy]}
"""


def make_run(path: Path, *, steps: int = 40, **sides: dict[str, Any] | None) -> RunDir:
    """Write the folder; `before` and `after` replace the sides, None leaves one out."""
    run_dir = RunDir.create(path)
    run_dir.recipe_yaml.write_text(RECIPE, encoding="utf-8")
    recipe_file = run_dir.recipe_yaml
    write_json(run_dir.resolved_json, resolved(load_recipe(recipe_file)))
    write_json(run_dir.environment_json, ENVIRONMENT)
    given = {"before": make_side(after=False), "after": make_side(after=True), **sides}
    kept = {when: side for when, side in given.items() if side is not None}
    write_json(run_dir.evaluation_json, kept)
    write_json(run_dir.result_json, RESULT)
    _write_events(run_dir, steps)
    return run_dir


def make_side(*, after: bool, **changes: Any) -> dict[str, Any]:
    """One side of evaluation.json."""
    value = 0.8875 if after else 0.0
    low, high = (0.80, 0.94) if after else (0.0, 0.0458)
    keys = {"valid-json": 1.0 if after else 0.1, "key intent": 0.925 if after else 0.05}
    match = {"value": value, "rows": 80, "low": low, "high": high}
    side = {
        "loss": 0.3121 if after else 2.7103,
        "perplexity": 1.3663 if after else 15.034,
        "tokens": 1804,
        "rows": 80,
        "metrics": {
            "json-match": {**match, "details": keys},
            "exact-match": {**match, "details": {}},
            "token-accuracy": {
                "value": 0.94 if after else 0.55,
                "rows": 80,
                "low": None,
                "high": None,
                "details": {"tokens": 1804},
            },
        },
        "answers": [make_answer(number, after=after) for number in range(1, 4)],
    }
    return {**side, **changes}


def make_answer(number: int, *, after: bool) -> dict[str, Any]:
    """A held-out row with markup in all that a stranger may have written."""
    reference = json.dumps({"intent": "order_status", "urgency": "high", "product": "tent"})
    before = "Sure! <script>alert(1)</script> I would be **happy** to help.\n\nWhat is it about?"
    return {
        "row_id": f"desk.jsonl:{number}",
        "prompt": f"Where is my <b>tent</b>? I leave on Friday & need it. Order {number}.",
        "reference": reference,
        "text": reference if after and number != 3 else before,
        "finish_reason": "stop",
    }


def _write_events(run_dir: RunDir, steps: int) -> None:
    with EventLog(run_dir.events_jsonl) as events:
        events.write("run", status="running", pid=1)
        events.write("data", **DATA)
        events.write("warning", message="2 rows are left out (listed in dropped.json)")
        for step in range(1, steps + 1):
            loss = 0.25 + 2.3 * math.exp(-step / 8) + 0.05 * math.sin(step * 12.9898)
            events.write(
                "step", step, total_steps=steps, epoch=step / steps * 3, loss=loss,
                learning_rate=5e-4, gradient_norm=1.0, supervised_tokens=280 + step % 5,
                tokens=2000, seconds=1.2, tokens_per_second=1650.0, memory_bytes=720_000_000,
            )  # fmt: skip
            if step == 20:
                events.write("evaluation", step, loss=0.47)
        events.write("run", steps, status="succeeded")


DATA: dict[str, Any] = {
    "message": "data: 358 rows to train on (messages), 80 held out",
    "format": "messages",
    "counts": {"rows_read": 361, "duplicates": 1},
    "train": {"rows": 358, "tokens": 25_000, "supervised_tokens": 8_100, "rows_truncated": 0},
    "validation": {"rows": 80, "tokens": 5_600, "supervised_tokens": 1_804},
    "dropped": [
        {"row_id": "desk.jsonl:9", "reason": "too long"},
        {"row_id": "desk.jsonl:12", "reason": "too long"},
    ],
}
RESULT: dict[str, Any] = {
    "status": "succeeded",
    "method": "lora",
    "trainable_parameters": 4_884_480,
    "total_parameters": 139_399_488,
    "supervised_tokens": 24_300,
    "tokens": 75_000,
    "tokens_per_second": 1650.4,
    "peak_memory_bytes": 912_000_000,
    "planned_memory_bytes": 980_000_000,
    "seconds": 131.0,
    "train_loss": 0.2531,
    "rows_used": 358,
    "rows_dropped": {"too long": 2},
}
ENVIRONMENT: dict[str, Any] = {
    "tunesmith": "0.1.0",
    "packages": {"torch": "2.13.0", "transformers": "5.24.0"},
    "device": "cpu",
    "threads": 2,
    "machine": {
        "system": "Linux",
        "processor": "a processor of 2 cores",
        "cpu_count": 2,
        "memory_bytes": 24_000_000_000,
        "python": "3.11.9",
    },
    "dtype": "bf16",
    "seed": 0,
    "model": {"name": "smollm2-135m-instruct", "folder": "/models/smollm2", "origin": {}},
}
