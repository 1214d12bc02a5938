from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.platforms import rank_process
from tunesmith.platforms.rank_process import RankProcess

# Says what it was given, then waits for a signal.
RANK = """import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print(os.environ["RANK"], os.environ["TUNESMITH_LAUNCHER_PID"], flush=True)
time.sleep(30)
"""


@pytest.fixture
def rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RankProcess]:
    (tmp_path / "ranks").mkdir()
    monkeypatch.setattr(rank_process, "run_command", lambda _, python: (python, "-c", RANK))
    process = RankProcess(tmp_path)
    yield process
    process.end_at_once()


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_rank_is_started_asked_to_stop_and_waited_for(rank: RankProcess, tmp_path: Path) -> None:
    rank.start(1, {"RANK": "1"}, "127.0.0.1")
    wait_for(tmp_path / "ranks" / "rank-1" / "log.txt", f"1 {os.getpid()}\n")
    rank.send(signal.SIGTERM)
    assert rank.wait() == 75
    rank.send(signal.SIGTERM)
    rank.end(1)


def test_a_rank_hears_signals_that_its_actor_does_not(rank: RankProcess, tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # as Ray does with SIGINT
    try:
        rank.start(0, {"RANK": "0"}, "127.0.0.1")
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    wait_for(tmp_path / "log.txt", "0 ")
    rank.send(signal.SIGTERM)
    assert rank.wait() == 75


def test_a_rank_is_ended_at_once(rank: RankProcess, tmp_path: Path) -> None:
    rank.end_at_once()
    rank.start(0, {"RANK": "0"}, "127.0.0.1")
    wait_for(tmp_path / "log.txt", "0 ")
    rank.end(0)
    assert rank.wait() == -signal.SIGKILL


def test_a_node_says_whether_it_sees_the_run(
    rank: RankProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_process, "SEEN_WITHIN_S", 0.0)
    (tmp_path / "ranks" / "mark").touch()
    assert rank.describe("ranks/mark").sees_run
    assert not rank.describe("ranks/other").sees_run


def test_the_port_is_free_for_the_rank_and_for_nobody_else(rank: RankProcess) -> None:
    port = rank.describe("ranks").port
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("", port))
    with socket.socket() as own:  # as torch's store does
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("", port))
        own.listen()
