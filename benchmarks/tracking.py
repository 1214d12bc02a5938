"""What a tracker beside a run costs it: the same recipe with and without, in turn.

    .venv/bin/python benchmarks/tracking.py RECIPE [--to tensorboard] [--rounds 3] [--steps 40]

A round is two runs, each a process of its own; the order changes from round to round. The ratio is
of the median times of a step, over all rounds but the first two steps of each run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.recipe.load import load_recipe, resolved

WARM_UP_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--to", default="tensorboard")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            order = ("without", "with") if number % 2 == 0 else ("with", "without")
            for which in order:
                to = arguments.to if which == "with" else None
                run_dir = prepare(arguments, Path(folder) / f"{which}-{number}", to)
                seconds[which] += step_seconds(run_dir)
    medians = {which: median(values) for which, values in seconds.items()}
    result: dict[str, Any] = {
        "tracker": arguments.to,
        "steps": len(seconds["with"]),
        "median_step_s": {which: round(value, 4) for which, value in medians.items()},
        "ratio": round(medians["with"] / medians["without"], 3),
    }
    print(json.dumps(result, indent=1))


def prepare(arguments: argparse.Namespace, folder: Path, to: str | None) -> RunDir:
    """Make the folder of a run that only trains."""
    settings = [f"training.max_steps={arguments.steps}", "evaluation.before=false"]
    settings += ["evaluation.after=false"] + ([f"tracking={to}"] if to else [])
    run_dir = RunDir.create(folder)
    write_json(run_dir.resolved_json, resolved(load_recipe(arguments.recipe, settings)))
    return run_dir


def step_seconds(run_dir: RunDir) -> list[float]:
    """Carry out the run; the seconds of each of its steps."""
    with run_dir.log.open("ab") as log:
        command = [sys.executable, "-m", "tunesmith.run", str(run_dir.path)]
        subprocess.run(command, stdout=log, stderr=log, check=True)
    steps = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "step"]
    return [event["seconds"] for event in steps[WARM_UP_STEPS:]]


if __name__ == "__main__":
    main()
