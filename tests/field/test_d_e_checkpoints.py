"""Reports about checkpoints: which are kept, and run folders that were moved.

The cases of several processes are in test_d_ranks.py and beside the strategies.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from tests.fakes.forked_run import run_forked
from tests.fakes.tiny_run import make_model_folder, make_rows, make_run
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir
from tunesmith.evaluation.held_out_rows import HeldOutRows
from tunesmith.training.checkpoint import Progress, list_checkpoints, read_checkpoint

SCRIPTED = {2: 5.0, 3: 3.5, 4: 3.0, 6: 4.0, 8: 6.0}
PAUSED_AFTER = 6
Make = Callable[..., RunDir]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make runs of eight steps."""
    model, rows = make_model_folder(tmp_path / "model"), make_rows(tmp_path / "rows.jsonl", 24)

    def make_named(name: str, **training: Any) -> RunDir:
        fixed = {"max_steps": 8, "tokens_per_step": 128, "micro_batch_tokens": 128}
        evaluation = {"before": False, "after": False}
        return make_run(
            tmp_path / name, model, rows, training={**fixed, **training}, evaluation=evaluation
        )

    return make_named


def script_losses() -> None:
    """Have held-out losses come from the script."""

    def watch(_: HeldOutRows, progress: Progress) -> Progress:
        loss = SCRIPTED[progress.step]
        return replace(progress, held_out={**progress.held_out, progress.step: loss})

    HeldOutRows.watch = watch


def script_losses_and_pause() -> None:
    """The same, and the run is asked to pause while it makes a step."""
    from tunesmith.run import steps

    script_losses()
    tell_step = steps.tell_step

    def tell(events: Any, done: Any, device: Any) -> None:
        tell_step(events, done, device)
        if done.step == PAUSED_AFTER:
            (events.path.parent / "control").write_text("pause")

    steps.tell_step = tell


@pytest.mark.parametrize(
    ("every", "evaluate", "limit", "left"),
    [(3, 2, 1, [4, 8]), (2, 2, 2, [4, 8])],
    ids=["save every 3, evaluate every 2, keep 1", "save = evaluate, keep 2"],
)
def test_b104_the_best_and_the_last_checkpoint_are_there_and_load(
    make: Make, every: int, evaluate: int, limit: int, left: list[int]
) -> None:
    run_dir = make("run", checkpoint_every=every, evaluate_every=evaluate, keep_checkpoints=limit)
    assert run_forked(run_dir, prepare=script_losses) == 0, run_dir.log.read_text()
    kept = list_checkpoints(run_dir.checkpoints)
    assert [path.name for path in kept] == [f"step-{step}" for step in left]
    assert len(kept) <= limit + 1
    assert [progress_of(path).step for path in kept] == left
    assert progress_of(kept[-1]).best_step == 4


@pytest.mark.parametrize("best_is_there", [True, False])
def test_b106_a_run_that_was_moved_goes_on_and_a_missing_best_is_a_warning(
    make: Make, tmp_path: Path, best_is_there: bool
) -> None:
    run_dir = make("here", checkpoint_every=3, evaluate_every=2, keep_checkpoints=1)
    assert run_forked(run_dir, prepare=script_losses_and_pause) == 75, run_dir.log.read_text()
    moved = RunDir(tmp_path / "there" / "moved")
    moved.path.parent.mkdir()
    shutil.move(run_dir.path, moved.path)
    moved.control.unlink()
    if not best_is_there:
        shutil.rmtree(moved.checkpoints / "step-4")
    assert run_forked(moved, prepare=script_losses) == 0, moved.log.read_text()
    assert moved.report_html.is_file()
    assert any(moved.final.iterdir())
    assert not run_dir.path.exists()
    told = [event["message"] for event in read_events(moved.events_jsonl) if is_warning(event)]
    assert any("checkpoints/step-4" in text for text in told) != best_is_there


def is_warning(event: Mapping[str, Any]) -> bool:
    return event["type"] == "warning"


def progress_of(checkpoint: Path) -> Progress:
    names = safetensors.torch.load_file(checkpoint / "trained.safetensors")
    return read_checkpoint(checkpoint, names)[0]
