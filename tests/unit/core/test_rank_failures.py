"""What rank 0 tells when the connection to another rank is broken."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tunesmith.core import rank_failures
from tunesmith.core.errors import TunesmithError
from tunesmith.core.events import EventLog
from tunesmith.core.rank_failures import cause_of, tell_death
from tunesmith.core.run_dir import RunDir

GONE = RuntimeError("Connection closed by peer")


@pytest.fixture(name="run_dir")
def run_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(rank_failures, "WAIT_S", 0.05)
    run_dir = RunDir(tmp_path)
    run_dir.of_rank(1).path.mkdir(parents=True)
    return run_dir


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def told(run_dir: RunDir) -> tuple[str, str]:
    error = cause_of(GONE, run_dir, rank=0, size=2)
    assert isinstance(error, TunesmithError)
    return error.code, error.faults[0].found


def test_the_other_ranks_word_is_the_reason(run_dir: RunDir) -> None:
    fault = {"found": "a bad row", "where": "rows:3", "fix": "mend it"}
    with EventLog(run_dir.of_rank(1).events_jsonl) as events:
        events.write("error", None, code="bad_row", exit_code=3, faults=[fault])
    assert told(run_dir) == ("bad_row", "a bad row")


def test_a_rank_that_could_not_say_it_on_a_full_disk_is_told_by_the_disk(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(run_dir)[0] == "rank_gone"
    fill_disk(monkeypatch)
    code, found = told(run_dir)
    assert code == "no_space"
    assert "the disk is full" in found


def test_what_the_launcher_saw_of_it_says_less_than_the_disk(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_death(run_dir, 1, 3)
    assert told(run_dir) == ("rank_died", "rank 1 ended with exit code 3")
    fill_disk(monkeypatch)
    assert told(run_dir)[0] == "no_space"
    assert not list(run_dir.ranks.glob(".probe"))
