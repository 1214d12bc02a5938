"""Each method of the PEFT library for ten steps at its defaults: loss, memory, tokens per second.

    python benchmarks/library_methods.py --out benchmarks/results/library_methods.json

80 rows of the sample data, SmolLM2-135M-Instruct, 600 tokens a step. It shows whether a default
rate learns or runs away, and holds the planned memory beside the peak; it is too short to say which
method is best.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith.core import hardware
from tunesmith.core.events import read_events
from tunesmith.recipe.peft_method import ROWS

RECIPE: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "task": "chat",
    "data": {"train": "sample:support-desk", "limit": 80},
    "training": {"max_steps": 10, "tokens_per_step": 600, "micro_batch_tokens": 1200},
    "evaluation": {"prompts": 0},
}
KEPT = (
    "trainable_parameters",
    "validation_loss_before",
    "validation_loss_after",
    "planned_memory_bytes",
    "peak_memory_bytes",
    "tokens_per_second",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", nargs="+", default=["lora", *ROWS])
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": hardware.describe(),
        "methods": {},
    }
    for method in options.methods:
        result["methods"][method] = measured = run(method)
        print(method, json.dumps(measured), flush=True)
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n")


def run(method: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        recipe, run_dir = Path(folder) / "recipe.yaml", Path(folder) / "run"
        recipe.write_text(json.dumps({**RECIPE, "method": method}))  # JSON is YAML, too
        command = [sys.executable, "-m", "tunesmith", "train", str(recipe)]
        subprocess.run([*command, "--run-dir", str(run_dir)], check=True, capture_output=True)
        values = json.loads((run_dir / "result.json").read_text())
        steps = [one for one in read_events(run_dir / "events.jsonl") if one["type"] == "step"]
        return {**{key: values[key] for key in KEPT}, "losses": [one["loss"] for one in steps]}


if __name__ == "__main__":
    main()
