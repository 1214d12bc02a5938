from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.core.run_dir import RunDir
from tunesmith.core.stopping import StoppedEarly, StopRequests
from tunesmith.core.threads import with_short_spins


@pytest.fixture
def requests(tmp_path: Path) -> Iterator[StopRequests]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    requests = StopRequests(RunDir.create(tmp_path / "run"))
    requests.listen()
    yield requests
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_held_back_is_noted_and_raised_by_check(
    requests: StopRequests, number: signal.Signals, code: int
) -> None:
    with requests.held_back():
        os.kill(os.getpid(), number)
        assert requests.is_asked()
        with pytest.raises(StoppedEarly) as stopped:
            requests.check()
    assert stopped.value.exit_code == code


def test_a_signal_where_nothing_is_to_be_finished_ends_at_once(requests: StopRequests) -> None:
    with pytest.raises(StoppedEarly):
        os.kill(os.getpid(), signal.SIGTERM)
    assert requests.is_asked()


@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_the_control_file_asks_for_a_stop(tmp_path: Path, word: str) -> None:
    run_dir = RunDir.create(tmp_path / "run")
    requests = StopRequests(run_dir)
    assert not requests.is_asked()
    run_dir.control.write_text(word + "\n")
    with pytest.raises(StoppedEarly, match=word) as stopped:
        requests.check()
    assert stopped.value.exit_code == 75


def test_a_second_interrupt_ends_the_process_at_once(tmp_path: Path) -> None:
    script = (
        "import os, signal, time\n"
        "from tunesmith.core.run_dir import RunDir\n"
        "from tunesmith.core.stopping import StopRequests\n"
        f"stop = StopRequests(RunDir.create({str(tmp_path / 'run')!r}))\n"
        "stop.listen()\n"
        "with stop.held_back():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=30, check=False).returncode == 130


def test_threads_sleep_soon_unless_the_user_says_otherwise() -> None:
    assert with_short_spins({}) == {"GOMP_SPINCOUNT": "1000"}
    for own in ({"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "ACTIVE"}):
        assert with_short_spins(own) == own
