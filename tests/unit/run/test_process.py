"""A rank's own folder."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.events import EventLog
from tunesmith.core.rank_failures import failure_of, tell_death
from tunesmith.core.run_dir import RunDir
from tunesmith.run.process import folder_of_rank


def test_a_failure_of_the_start_before_is_not_taken_for_one_of_now(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    tell_death(run_dir, 1, -9)
    run_dir.of_rank(1).log.write_text("before")
    assert failure_of(run_dir.of_rank(1)) is not None
    own = folder_of_rank(run_dir, 1)
    assert failure_of(own) is None
    assert own.log.read_text() == "before"


def test_what_rank_0_has_told_the_run_folder_stays(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    with EventLog(run_dir.events_jsonl) as events:
        events.write("run", status="running")
    assert folder_of_rank(run_dir, 0) == run_dir
    assert run_dir.events_jsonl.exists()
