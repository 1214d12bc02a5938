"""What each technique brings: the same LoRA run whole, and with one thing left out, in turn.

    python benchmarks/techniques.py --model FOLDER --data alpaca_en_demo.json --rounds 2 \
        --out benchmarks/results/techniques.json

Nothing else should run meanwhile. Writes every round, and the medians of time and memory as
multiples of the whole run's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compare_alpaca import run

from tunesmith.core import hardware

PROGRAM = str(Path(__file__).with_name("alpaca.py"))
WHOLE = "whole"
# "short-spins" is the environment of the process, the others are flags of the program.
LEFT_OUT = ("shared-prefix", "one-line", "own-products", "kept-memory", "short-spins")
MEASURES = ("seconds", "peak_rss_bytes")


def main() -> None:
    options = parse_options()
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in (WHOLE, *LEFT_OUT)}
    for _ in range(options.rounds):
        for name, runs in rounds.items():
            command = [sys.executable, PROGRAM, "--model", options.model]
            command += ["--data", str(Path(options.data).absolute()), "--rows", str(options.rows)]
            if name not in (WHOLE, "short-spins"):
                command += ["--without", name]
            runs.append(run(command, ours=name != "short-spins"))
            print(name, json.dumps(runs[-1]), flush=True)
    medians = {
        name: {measure: statistics.median(one[measure] for one in runs) for measure in MEASURES}
        for name, runs in rounds.items()
    }
    whole = medians[WHOLE]
    result = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": hardware.describe(),
        "rounds": rounds,
        "without": {
            name: {measure: medians[name][measure] / whole[measure] for measure in MEASURES}
            for name in LEFT_OUT
        },
    }
    Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["without"], indent=1))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
