"""Tunesmith and TRL with PEFT on the same Alpaca rows, method by method, in turn, on this machine.

    python benchmarks/compare_alpaca.py --reference-python REF/bin/python --model FOLDER \
        --data alpaca_en_demo.json --methods lora dora qlora full ia3 --rounds 2 \
        --out benchmarks/results/methods.json

`REF` is an environment of the reference's own (alpaca_trl.py says which). Nothing else should run
meanwhile. Writes every round, the medians, their ratios, and the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.core import hardware
from tunesmith.core.threads import with_short_spins

OURS = Path(__file__).with_name("alpaca.py")
MEASURES = ("tokens_per_second", "peak_rss_bytes", "held_out_loss", "seconds")
# Both take twice the steps' rate where a step holds about twice the tokens (1,536, not four rows).
RATES = {"full": 4e-5, "ia3": 1e-2}
LORA_RATE = 4e-4


def main() -> None:
    options = parse_options()
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in range(options.rounds):
        for method in options.methods:
            for name, command in commands(method, options).items():
                measured = run(command, ours=name == "tunesmith")
                rounds.setdefault(method, {}).setdefault(name, []).append(measured)
                print(number, method, name, json.dumps(measured), flush=True)
                write(Path(options.out), rounds)  # a round that is cut off keeps those before it


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", default=str(Path(__file__).with_name("alpaca_trl.py")))
    parser.add_argument("--reference-python", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--methods", nargs="+", default=["lora"])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def commands(method: str, options: argparse.Namespace) -> dict[str, list[str]]:
    """The two programs for one method, ours first."""
    data = str(Path(options.data).absolute())
    shared = ["--model", options.model, "--data", data, "--rows", str(options.rows)]
    shared += ["--method", method]
    rate = str(RATES.get(method, LORA_RATE))
    reference = str(Path(options.reference).absolute())
    return {
        "tunesmith": [sys.executable, str(OURS), *shared, "--learning-rate", rate],
        "reference": [options.reference_python, reference, *shared],
    }


def write(out: Path, rounds: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Write what has been measured up to now: rounds, medians, ratios, the machine."""
    result = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": hardware.describe(),
        "torch": version("torch"),
        "methods": {method: summed_up(runs) for method, runs in rounds.items()},
    }
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def summed_up(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    medians = {
        name: {measure: statistics.median(one[measure] for one in each) for measure in MEASURES}
        for name, each in runs.items()
    }
    if medians.keys() < {"tunesmith", "reference"}:
        return {"rounds": runs, "medians": medians}
    ours, theirs = medians["tunesmith"], medians["reference"]
    return {
        "rounds": runs,
        "medians": medians,
        "speed_ratio": ours["tokens_per_second"] / theirs["tokens_per_second"],
        "memory_ratio": ours["peak_rss_bytes"] / theirs["peak_rss_bytes"],
        "held_out_loss_difference": ours["held_out_loss"] - theirs["held_out_loss"],
    }


def run(command: list[str], *, ours: bool) -> dict[str, Any]:
    """Run in an empty folder; the reference with its own defaults for threads."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        subprocess.run(
            [*command, "--out", str(out)],
            cwd=folder,
            env=with_short_spins() if ours else None,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return json.loads(out.read_text())


if __name__ == "__main__":
    main()
