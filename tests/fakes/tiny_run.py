"""A run small enough to be started many times: a tiny model's folder, rows, and a run folder."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_llama
from tunesmith.core.events import Event, read_events
from tunesmith.core.run_dir import RunDir, read_json, write_json
from tunesmith.core.threads import with_short_spins
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.recipe.load import load_recipe, resolved

TIMEOUT_S = 120


def make_model_folder(folder: Path) -> Path:
    """Save a random Llama with a byte tokenizer and a ChatML template."""
    make_tokenizer(folder)
    make_llama(vocab_size=len(load_tokenizer(folder))).save_pretrained(folder)
    return folder


def make_rows(file: Path, num_rows: int) -> Path:
    """Write rows of different lengths."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"question {row} " + "word " * (row % 7)},
                {"role": "assistant", "content": f"answer {row * row} " + "yes " * (row % 5)},
            ]
        }
        for row in range(num_rows)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def make_run(folder: Path, model: Path, rows: Path, /, **parts: Any) -> RunDir:
    """Make a run folder that is ready to be carried out."""
    recipe: dict[str, Any] = {
        "model": str(model),
        "task": "chat",
        "data": {"train": str(rows), "validation": "20%"},
        "method": {"type": "lora", "rank": 4, "dropout": 0.1},
        "training": {
            "epochs": 3,
            "tokens_per_step": 256,
            "micro_batch_tokens": 160,
            "checkpoint_every": 4,
            "learning_rate": 1e-3,
        },
        "evaluation": {"prompts": 1, "max_new_tokens": 4, "probe": False},
    }
    for part, values in parts.items():
        is_partial = isinstance(recipe.get(part), dict) and isinstance(values, dict)
        is_partial = is_partial and not (part == "method" and "type" in values)
        recipe[part] = {**recipe[part], **values} if is_partial else values
    run_dir = RunDir.create(folder)
    loaded = load_recipe(recipe)
    run_dir.recipe_yaml.write_text(loaded.text)
    write_json(run_dir.resolved_json, resolved(loaded))
    return run_dir


def start_run(run_dir: RunDir) -> subprocess.Popen[bytes]:
    """Start the run's process; its output goes to the run's log."""
    with run_dir.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tunesmith.run", str(run_dir.path)],
            stdout=log,
            stderr=log,
            env=with_short_spins(),
        )


def losses_of(run_dir: RunDir) -> dict[int, float]:
    """Each step's loss; a step that was made again after a resume must have had the same."""
    losses: dict[int, float] = {}
    for event in read_events(run_dir.events_jsonl):
        if event["type"] == "step":
            again = losses.setdefault(event["step"], event["loss"])
            assert again == event["loss"], f"step {event['step']} was made again with another loss"
    return losses


def weights_of(run_dir: RunDir) -> dict[str, Any]:
    """The tensors of the final adapter, or of the model where all of it was trained."""
    files = sorted(run_dir.final.glob("*.safetensors"))
    assert files, f"no weights in {run_dir.final}"
    return {
        name: tensor for file in files for name, tensor in safetensors.torch.load_file(file).items()
    }


def logs_of(run_dir: RunDir) -> str:
    """What the run and its ranks have said, those of starts that lost some, too."""
    files = [run_dir.log, *run_dir.path.glob("ranks*/rank-*/log.txt")]
    return "\n".join(f"{file}\n{file.read_text()}" for file in files if file.exists())


def wait_for_step(
    run_dir: RunDir, process: subprocess.Popen[bytes], step: int, *, within_s: float = TIMEOUT_S
) -> None:
    """Wait until the run has told of a step, or has ended."""
    _wait_for(
        run_dir,
        process,
        lambda event: event["type"] == "step" and event["step"] >= step,
        f"step {step}",
        within_s,
    )


def wait_for_event(
    run_dir: RunDir, process: subprocess.Popen[bytes], words: str, *, within_s: float = TIMEOUT_S
) -> None:
    """Wait until the run has told something with these words."""
    _wait_for(run_dir, process, lambda event: words in str(event.get("message")), words, within_s)


def _wait_for(
    run_dir: RunDir,
    process: subprocess.Popen[bytes],
    is_it: Callable[[Event], bool],
    what: str,
    within_s: float,
) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None:
        if any(is_it(event) for event in read_events(run_dir.events_jsonl)):
            return
        time.sleep(0.002)
    raise AssertionError(f"{what} was not seen: {run_dir.log.read_text()}")


def assert_same_run(run_dir: RunDir, reference: RunDir) -> None:
    """Losses, weights, held-out losses and counts are the same, bit for bit."""
    assert losses_of(run_dir) == losses_of(reference)
    ours, theirs = weights_of(run_dir), weights_of(reference)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    first, second = read_json(run_dir.evaluation_json), read_json(reference.evaluation_json)
    assert first["before"]["loss"] == second["before"]["loss"]
    assert first["after"]["loss"] == second["after"]["loss"]
    for key in ("tokens", "supervised_tokens", "steps", "train_loss"):
        assert read_json(run_dir.result_json)[key] == read_json(reference.result_json)[key]
