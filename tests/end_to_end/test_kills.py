"""Invariant 6 at every instant: killed, or its disk full, between any two of its writes.

`TUNESMITH_KILLS=30 pytest tests/end_to_end/test_kills.py` takes 30 instants of each kind; by
default one of each part of a run is taken.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Sequence

import pytest

from tests.fakes.forked_run import TRACE_FILE, Instant, read_trace, run_forked
from tests.fakes.tiny_run import assert_same_run, make_model_folder, make_rows, make_run
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import RunDir

NUM_INSTANTS = int(os.environ.get("TUNESMITH_KILLS", "0"))
BY_DEFAULT = 3
# Seconds for all instants, where each may wait for a busy machine.
pytestmark = pytest.mark.timeout(60 * max(NUM_INSTANTS, 5))
TRAINING = {"epochs": 1, "checkpoint_every": 2, "evaluate_every": 3, "keep_checkpoints": 1}

Make = Callable[[str], RunDir]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    folder = tmp_path_factory.mktemp("kills")
    model, rows = make_model_folder(folder / "model"), make_rows(folder / "rows.jsonl", 32)
    return lambda name: make_run(folder / name, model, rows, training=TRAINING)


@pytest.fixture(scope="module")
def never_stopped(make: Make) -> RunDir:
    run_dir = make("never-stopped")
    assert run_forked(run_dir) == 0, run_dir.log.read_text()
    return run_dir


def test_killed_before_during_or_after_any_write_it_goes_on_to_the_same_end(
    make: Make, never_stopped: RunDir
) -> None:
    for number, instant in enumerate(instants(read_trace(never_stopped), seed=0)):
        run_dir = make(f"killed-{number}")
        code = run_forked(run_dir, at=instant)
        assert code == -signal.SIGKILL, f"{instant}: {run_dir.log.read_text()}"
        assert run_forked(run_dir) == 0, f"{instant}: {run_dir.log.read_text()}"
        assert_ends_like(run_dir, never_stopped, instant)


def test_a_disk_that_is_full_from_any_write_on_ends_the_run_which_goes_on_with_room(
    make: Make, never_stopped: RunDir
) -> None:
    for number, instant in enumerate(instants(read_trace(never_stopped), seed=1)):
        run_dir = make(f"full-{number}")
        code = run_forked(run_dir, at=instant, then="full")
        log = run_dir.log.read_text()
        assert code in (2, 3), f"{instant}: {log}"
        assert "no space" in log, f"{instant}: {log}"
        assert "a fault in Tunesmith itself" not in log, f"{instant}: {log}"
        errors = [e for e in read_events(run_dir.events_jsonl) if e["type"] == "error"]
        assert [e["code"] for e in errors] in ([], ["no_space"]), f"{instant}: {errors}"
        assert run_forked(run_dir) == 0, f"{instant}: {run_dir.log.read_text()}"
        assert_ends_like(run_dir, never_stopped, instant)


def instants(trace: Sequence[Instant], *, seed: int) -> list[Instant]:
    """Choose instants at random, in turn from each part of a run."""
    parts = [[instant for instant in trace if has(instant.what)] for has in PARTS]
    assert all(parts), "a part of the run writes nothing"
    chance = random.Random(seed)
    number = NUM_INSTANTS or BY_DEFAULT
    return [chance.choice(parts[turn % len(parts)]) for turn in range(number)]


def assert_ends_like(run_dir: RunDir, reference: RunDir, instant: Instant) -> None:
    """The numbers are the same, and so are the names of all files that are left."""
    assert_same_run(run_dir, reference)
    assert names_in(run_dir) == names_in(reference), instant
    shutil.rmtree(run_dir.path)


def names_in(run_dir: RunDir) -> set[str]:
    files = (path for path in run_dir.path.rglob("*") if path.is_file())
    return {str(path.relative_to(run_dir.path)) for path in files} - {TRACE_FILE}


def _is_repeated(what: str) -> bool:
    """Whether a write is made by the clock, so that another run may make fewer of them."""
    return what.endswith((" .state.json.tmp", " state.json"))


PARTS: tuple[Callable[[str], bool], ...] = (
    lambda what: " checkpoints" in what,
    lambda what: " .final.tmp" in what or what == "rename final",
    lambda what: (
        not any(word in what for word in ("checkpoints", "final")) and not _is_repeated(what)
    ),
)
