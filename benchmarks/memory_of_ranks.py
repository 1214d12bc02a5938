"""What a run of several ranks was planned to take on each of them, beside what it took.

    python benchmarks/memory_of_ranks.py --out benchmarks/results/memory_of_ranks.json

SmolLM2-135M-Instruct in two ranks on this machine, two steps of rows of the sample data, without
evaluation: the peak is that of training. DeepSpeed needs its extra.
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

MODEL = "smollm2-135m-instruct"
DTYPES = {"lora": "bf16", "full": "fp32"}  # ZeRO 1 and FSDP train fp32 weights only
RECIPE: dict[str, Any] = {
    "task": "chat",
    "data": {"train": "sample:support-desk", "limit": 80},
    "training": {"max_steps": 2, "tokens_per_step": 2048, "micro_batch_tokens": 1024},
    "evaluation": {"before": False, "after": False},
}
STRATEGIES: dict[str, Any] = {
    "single": "single",
    "ddp": {"type": "ddp", "processes": 2},
    "zero-1": {"type": "deepspeed", "processes": 2, "zero": 1},
    "zero-2": {"type": "deepspeed", "processes": 2, "zero": 2},
    "zero-3": {"type": "deepspeed", "processes": 2, "zero": 3},
    "fsdp": {"type": "fsdp", "processes": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": hardware.describe(),
        "runs": [],
    }
    for method in options.methods:
        for strategy in options.strategies:
            measured = {"method": method, "strategy": strategy, **run(method, strategy)}
            result["runs"].append(measured)
            print(json.dumps(measured), flush=True)
            Path(options.out).write_text(json.dumps(result, indent=1) + "\n")


def run(method: str, strategy: str) -> dict[str, Any]:
    """Return the bytes planned for a rank, and the peaks of the ranks."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, run_dir = Path(folder) / "recipe.yaml", Path(folder) / "run"
        model = {"source": MODEL, "dtype": DTYPES[method]}
        parts = {**RECIPE, "model": model, "method": method, "strategy": STRATEGIES[strategy]}
        recipe.write_text(json.dumps(parts))  # JSON is YAML, too
        command = [sys.executable, "-m", "tunesmith", "train", str(recipe)]
        subprocess.run([*command, "--run-dir", str(run_dir)], check=True, capture_output=True)
        values = json.loads((run_dir / "result.json").read_text())
        peaks = values.get("peak_memory_bytes_of_ranks", [values["peak_memory_bytes"]])
        planned = values["planned_memory_bytes"]
        return {
            "planned": planned,
            "peaks": peaks,
            "ratios": [round(planned / peak, 3) for peak in peaks],
        }


if __name__ == "__main__":
    main()
