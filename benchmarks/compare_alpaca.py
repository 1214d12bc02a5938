"""Tunesmith and a reference script on the same Alpaca rows, in turn, on this machine.

    python benchmarks/compare_alpaca.py --reference trl_sft.py --reference-python ENV/bin/python \
        --model FOLDER --data alpaca_en_demo.json --rounds 2 --out benchmarks/results/alpaca.json

`ENV` is an environment of the reference's own. Nothing else should run meanwhile. Writes every
round, the medians, their ratios, and the machine.
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

OURS = Path(__file__).with_name("alpaca_lora.py")
MEASURES = ("tokens_per_second", "peak_rss_bytes", "held_out_loss", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--reference", required=True)
    parser.add_argument("--reference-python", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    data = str(Path(options.data).absolute())
    rounds: dict[str, list[dict[str, Any]]] = {"tunesmith": [], "reference": []}
    for _ in range(options.rounds):
        for name, command in (
            ("tunesmith", [sys.executable, str(OURS), "--model", options.model, "--data", data]),
            (
                "reference",
                [
                    options.reference_python,
                    str(Path(options.reference).absolute()),
                    *("--model", options.model, "--data", data),
                ],
            ),
        ):
            rounds[name].append(run(command, ours=name == "tunesmith"))
            print(name, json.dumps(rounds[name][-1]), flush=True)
    medians = {
        name: {measure: statistics.median(r[measure] for r in runs) for measure in MEASURES}
        for name, runs in rounds.items()
    }
    ours, theirs = medians["tunesmith"], medians["reference"]
    result = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": hardware.describe(),
        "torch": version("torch"),
        "rounds": rounds,
        "medians": medians,
        "speed_ratio": ours["tokens_per_second"] / theirs["tokens_per_second"],
        "memory_ratio": ours["peak_rss_bytes"] / theirs["peak_rss_bytes"],
        "held_out_loss_difference": ours["held_out_loss"] - theirs["held_out_loss"],
    }
    Path(options.out).parent.mkdir(exist_ok=True)
    Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    print(
        json.dumps({key: result[key] for key in result if key.startswith(("speed", "mem", "held"))})
    )


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
