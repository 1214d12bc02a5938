"""Runs of two ranks, of which one or all are killed between any two writes, or within a step.

`TUNESMITH_KILLS=30 pytest tests/end_to_end/test_kills_of_ranks.py` takes 30 instants of each
strategy; by default a few are taken. After every second kill the newest checkpoint is damaged, too.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

from tests.fakes.forked_ranks import Whom, run_ranks_forked
from tests.fakes.forked_run import Instant, read_trace
from tests.fakes.long_cases import long
from tests.fakes.tiny_run import logs_of, make_model_folder, make_rows, make_run, weights_of
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.training.checkpoint import list_checkpoints

NUM_INSTANTS = int(os.environ.get("TUNESMITH_KILLS", "0"))
pytestmark = pytest.mark.timeout(300 * max(NUM_INSTANTS, 3))
TRAINING = {
    "epochs": 2,
    "micro_batch_tokens": 90,
    "checkpoint_every": 2,
    "evaluate_every": 3,
    "keep_checkpoints": 2,
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "ddp": {"type": "ddp", "processes": 2},
    "deepspeed-2": {"type": "deepspeed", "processes": 2, "zero": 2},
    "deepspeed-3": {"type": "deepspeed", "processes": 2, "zero": 3},
}
BY_DEFAULT = {"ddp": 2, "deepspeed-2": 1, "deepspeed-3": 0}
WHOM: tuple[Whom, ...] = ("all", "rank 1", "rank 0")
# Losses to this share, weights to this much: an engine adds in another order after a resume.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-5


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDir]:
    folder = tmp_path_factory.mktemp("rank-kills")
    model, rows = make_model_folder(folder / "model"), make_rows(folder / "rows.jsonl", 20)
    return lambda name, strategy: make_run(
        folder / name, model, rows, training=TRAINING, strategy=strategy
    )


@pytest.mark.parametrize("name", ["ddp", *long(name for name in STRATEGIES if name != "ddp")])
def test_however_ranks_are_killed_the_run_goes_on_to_the_same_end(
    make: Callable[..., RunDir], name: str
) -> None:
    number = NUM_INSTANTS or BY_DEFAULT[name]
    if number == 0:
        pytest.skip("by default the other strategies are killed; set TUNESMITH_KILLS=30")
    if name != "ddp" and find_spec("deepspeed") is None:
        pytest.skip("the extra deepspeed is not installed")
    never_stopped = make(name, STRATEGIES[name])
    assert run_ranks_forked(never_stopped) == 0, logs_of(never_stopped)
    for turn, instant in enumerate(instants(read_trace(never_stopped), number)):
        whom = WHOM[turn % len(WHOM)]
        what = f"{name}: {whom} killed at {instant}"
        run_dir = make(f"{name}-{turn}", STRATEGIES[name])
        code = run_ranks_forked(run_dir, at=instant, whom=whom)
        assert code == (-signal.SIGKILL if whom == "all" else 3), f"{what}: {logs_of(run_dir)}"
        is_damaged = turn % 2 == 1 and damage_newest(run_dir)
        assert run_ranks_forked(run_dir) == 0, f"{what}: {logs_of(run_dir)}"
        assert_ends_like(run_dir, never_stopped, what, bit_for_bit=name == "ddp")
        assert was_told_of_damage(run_dir) == is_damaged, what
        shutil.rmtree(run_dir.path)


def damage_newest(run_dir: RunDir) -> bool:
    """Cut the newest checkpoint's weights in half, where there is one before it."""
    checkpoints = list_checkpoints(run_dir.checkpoints)
    if len(checkpoints) < 2:
        return False
    file = checkpoints[-1] / "trained.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    return True


def was_told_of_damage(run_dir: RunDir) -> bool:
    events = read_events(run_dir.events_jsonl)
    return any(e["type"] == "warning" and "damaged" in e["message"] for e in events)


def instants(trace: Sequence[Instant], number: int) -> list[Instant]:
    """Choose instants at random, in turn from each part of a run."""
    parts = [[instant for instant in trace if has(instant.what)] for has in PARTS]
    assert all(parts), "a part of the run writes nothing"
    chance = random.Random(0)
    return [chance.choice(parts[turn % len(parts)]) for turn in range(number)]


def assert_ends_like(run_dir: RunDir, reference: RunDir, what: str, *, bit_for_bit: bool) -> None:
    """The numbers are the same, those of steps that were made again, too."""
    losses = {e["step"]: e["loss"] for e in steps_of(reference)}
    again = [(e["step"], e["loss"]) for e in steps_of(run_dir)]
    assert {step for step, _ in again} == set(losses), what
    rel = 0.0 if bit_for_bit else LOSS_TOLERANCE
    for step, loss in again:
        assert loss == pytest.approx(losses[step], rel=rel, abs=0.0), f"{what}: step {step}"
    ours, theirs = weights_of(run_dir), weights_of(reference)
    assert ours.keys() == theirs.keys()
    atol = 0.0 if bit_for_bit else WEIGHT_TOLERANCE
    assert all(ours[key].allclose(theirs[key], rtol=0.0, atol=atol) for key in ours), what
    assert any(tensor.any() for key, tensor in ours.items() if "lora_B" in key), what
    first, second = read_json(run_dir.evaluation_json), read_json(reference.evaluation_json)
    for when in ("before", "after"):
        loss = second[when]["loss"]
        assert first[when]["loss"] == pytest.approx(loss, rel=rel, abs=0.0), f"{what}: {when}"
    for key in ("tokens", "supervised_tokens", "steps"):
        assert read_json(run_dir.result_json)[key] == read_json(reference.result_json)[key], what


def steps_of(run_dir: RunDir) -> list[dict[str, Any]]:
    return [event for event in read_events(run_dir.events_jsonl) if event["type"] == "step"]


PARTS: tuple[Callable[[str], bool], ...] = (
    lambda what: " checkpoints" in what,
    lambda what: what == "open ranks/beat-0",  # within a step
    lambda what: " .final.tmp" in what or what == "rename final",
    lambda what: not any(word in what for word in ("checkpoints", "final", "ranks/", "state.json")),
)
