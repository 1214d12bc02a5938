"""Preparing chats beside TRL's own preparation: rows a second and peak memory.

    python benchmarks/prepare_rate.py --model FOLDER --data chats.jsonl --out results/prepare.json \
        [--reference-python ENV/bin/python] [--rows 20000] [--rounds 3] [--whole]

Both start from the same JSON lines, in turn, each in a process of its own with an empty cache.
Tunesmith is timed from the file to the finished arrays on disk, checks and near-duplicate
signatures included; TRL (benchmarks/trl_tokenize.py) from rows in memory to its tokenised data set,
with one process, its default, and with one process a core. `--whole` then prepares the whole
file, twice: the second start finds it done.

Memory is the proportional set size of the process and its children, sampled ten times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from tunesmith.core import hardware

SAMPLES_PER_SECOND = 10
OURS = """
import json, sys, time
from tunesmith.data.pipeline import prepare_data
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.recipe.data import DataPart
folder, data = sys.argv[1:]
start = time.perf_counter()
prepared = prepare_data(
    DataPart(train=data, overflow="truncate"), "chat", TokenizerSource(folder), tell=lambda _: None
)
seconds = time.perf_counter() - start
store = prepared.train_side.file.store
print(json.dumps({"rows": len(store.rows), "seconds": seconds,
    "rows_per_second": len(store.rows) / seconds, "tokens": int(store.meta["tokens"])}))
"""


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        write_head(Path(arguments.data), rows, arguments.rows)
        rounds: dict[str, list[dict[str, Any]]] = {"tunesmith": []}
        for _ in range(arguments.rounds):
            if arguments.reference_python:
                for processes in (None, os.cpu_count()):
                    name = "trl" if processes is None else f"trl, {processes} processes"
                    rounds.setdefault(name, []).append(
                        run_reference(arguments, rows, Path(folder), processes)
                    )
            rounds["tunesmith"].append(run_ours(arguments.model, rows))
    result: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": hardware.describe(),
        "rows": arguments.rows,
        "rounds": rounds,
        "medians": {
            name: statistics.median(one["rows_per_second"] for one in each)
            for name, each in rounds.items()
        },
    }
    medians = result["medians"]
    result["ratios"] = {
        name: medians["tunesmith"] / rate for name, rate in medians.items() if name != "tunesmith"
    }
    if arguments.whole:
        result["whole"] = run_whole(arguments)
    Path(arguments.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("medians", "ratios")}, indent=1))
    print(json.dumps(result.get("whole"), indent=1))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reference-python")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def write_head(source: Path, target: Path, num_rows: int) -> None:
    with source.open("rb") as lines, target.open("wb") as file:
        file.writelines(islice(lines, num_rows))


def run_whole(arguments: argparse.Namespace) -> dict[str, Any]:
    cache = Path(tempfile.mkdtemp())
    try:
        first = run_ours(arguments.model, Path(arguments.data), cache)
        again = run_ours(arguments.model, Path(arguments.data), cache)
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    finally:
        shutil.rmtree(cache)
    bytes_read = Path(arguments.data).stat().st_size
    return {"bytes": bytes_read, "cache_bytes": size, "first": first, "again": again}


def run_ours(model: str, data: Path, cache: Path | None = None) -> dict[str, Any]:
    folder = cache or Path(tempfile.mkdtemp())
    try:
        environment = {**os.environ, "TUNESMITH_CACHE": str(folder)}
        return watched([sys.executable, "-c", OURS, model, str(data)], environment)
    finally:
        if cache is None:
            shutil.rmtree(folder)


def run_reference(
    arguments: argparse.Namespace, data: Path, folder: Path, processes: int | None
) -> dict[str, Any]:
    script = Path(__file__).with_name("trl_tokenize.py")
    out = folder / "trl.json"
    command = [
        arguments.reference_python, str(script), "--model", arguments.model, "--data", str(data),
        "--rows", str(arguments.rows), "--out", str(out),
        *(["--processes", str(processes)] if processes else []),
    ]  # fmt: skip
    return watched(command, {**os.environ, "HF_HOME": str(folder / "hf")})


def watched(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run a command whose last line is JSON, and add the peak of its whole tree's memory."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    peak = [0]
    watcher = threading.Thread(target=watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command[:3]} ended with {process.returncode}")
    return {**json.loads(output.splitlines()[-1]), "peak_tree_bytes": peak[0]}


def watch(pid: int, peak: list[int]) -> None:
    try:
        parent = psutil.Process(pid)
        while True:
            peak[0] = max(peak[0], tree_bytes(parent))
            time.sleep(1 / SAMPLES_PER_SECOND)
    except psutil.NoSuchProcess:
        return


def tree_bytes(parent: psutil.Process) -> int:
    total = 0
    for process in (parent, *parent.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


if __name__ == "__main__":
    main()
