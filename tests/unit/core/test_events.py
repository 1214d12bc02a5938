import json
import threading
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tunesmith.core.errors import RunError
from tunesmith.core.events import EventLog, follow_events, read_events


def test_an_event_is_one_line_with_type_time_and_step(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("step", 3, loss=0.5, rows=["a:1"])
        log.write("note", message="two\nlines")
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    first = json.loads(lines[0])
    assert (first["type"], first["step"], first["loss"]) == ("step", 3, 0.5)
    assert datetime.fromisoformat(first["time"]).utcoffset().total_seconds() == 0
    assert json.loads(lines[1])["message"] == "two\nlines"


def test_a_loss_that_is_no_number_is_still_valid_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("step", 1, loss=float("nan"), norm=np.float32(2.0))
    event = read_events(path)[0]
    assert event["loss"] is None
    assert event["norm"] == 2.0


def test_appending_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for step in (1, 2):
        with EventLog(path) as log:
            log.write("step", step)
    assert [event["step"] for event in read_events(path)] == [1, 2]


def test_a_line_torn_by_a_kill_is_skipped_and_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"type":"step","step":1}\n{"type":"st')
    assert [event["step"] for event in read_events(path)] == [1]
    with EventLog(path) as log:
        log.write("step", 2)
    assert [event["step"] for event in read_events(path)] == [1, 2]


def test_no_file_means_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl") == []


def test_a_folder_that_is_gone_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        EventLog(tmp_path / "gone" / "events.jsonl")


def test_a_full_device_is_reported_as_no_space() -> None:
    with EventLog(Path("/dev/full")) as log, pytest.raises(RunError) as error:
        log.write("step", 1)
    assert error.value.code == "no_space"


def test_following_yields_what_was_written_before_the_stop(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("note", 1)
        log.write("note", 2)
    followed = list(follow_events(path, stop=lambda: True))
    assert [event["step"] for event in followed] == [1, 2]


def test_following_waits_for_the_file_and_joins_half_lines(tmp_path: Path) -> None:
    path, done = tmp_path / "events.jsonl", threading.Event()
    pieces = ['{"type":"step",', '"step":1}\n{"type":"step","step":2}\n{"ty']

    def write() -> None:
        for piece in pieces:
            done.wait(0.05)
            with path.open("a") as file:
                file.write(piece)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    followed = list(follow_events(path, stop=done.is_set, poll_s=0.01))
    writer.join()
    assert [event["step"] for event in followed] == [1, 2]


def test_following_can_start_behind_old_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.write("step", 1)
    start = path.stat().st_size
    with EventLog(path) as log:
        log.write("step", 2)
    followed = list(follow_events(path, stop=lambda: True, start=start))
    assert [event["step"] for event in followed] == [2]
