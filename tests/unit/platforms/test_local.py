import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tunesmith.core.errors import MachineError, RunError
from tunesmith.platforms.local import LocalProcess, passed_on_signals, start

# Says that it is up, then waits for a signal and exits with a code of its own for each.
WAITS = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("up", flush=True)
time.sleep(30)
"""
# Takes no notice of SIGINT.
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True)"


def start_python(code: str, log: Path) -> LocalProcess:
    return start((sys.executable, "-c", code), log=log)


def wait_until_up(log: Path) -> None:
    until = time.time() + 20
    while "up" not in log.read_text():
        assert time.time() < until
        time.sleep(0.01)


def test_output_goes_to_the_log_and_is_appended(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(7)"
    process = start_python(code, log)
    assert process.wait() == 7
    assert process.has_ended()
    assert log.read_text() == "before\nout\nerr\n"


def test_the_process_has_a_session_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    start_python("import os; print(os.getsid(0), os.getpid())", log).wait()
    session, pid = log.read_text().split()
    assert session == pid != str(os.getsid(0))


def test_a_program_that_is_not_there_is_a_machine_error(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be started"):
        start(("/no/such/python",), log=tmp_path / "log.txt")


def test_a_log_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        start((sys.executable, "-c", ""), log=tmp_path / "gone" / "log.txt")
    assert error.value.code == "cannot_write"


@pytest.mark.parametrize(
    ("number", "code", "request_"),
    [(signal.SIGINT, 130, "interrupt"), (signal.SIGTERM, 75, "terminate")],
)
def test_signals_are_passed_on(
    tmp_path: Path, number: signal.Signals, code: int, request_: str
) -> None:
    log = tmp_path / "log.txt"
    process = start_python(WAITS, log)
    with passed_on_signals(process):
        wait_until_up(log)
        os.kill(os.getpid(), number)
        assert process.wait() == code
    assert process.take_requests() == [request_]
    assert process.take_requests() == []
    assert process.was_interrupted is (number == signal.SIGINT)


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    process = start_python(DEAF + "; time.sleep(30)", log)
    with passed_on_signals(process):
        wait_until_up(log)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        assert not process.has_ended()
        os.kill(os.getpid(), signal.SIGINT)
        assert process.wait() == -signal.SIGKILL
    assert process.take_requests() == ["interrupt", "kill"]


def test_a_kill_takes_the_children_too(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    code = (
        "import subprocess, sys; child = subprocess.Popen(['sleep', '30']);"
        "print('up', child.pid, flush=True); child.wait()"
    )
    process = start_python(code, log)
    wait_until_up(log)
    child = int(log.read_text().split()[1])
    process.kill()
    assert process.wait() == -signal.SIGKILL
    until = time.time() + 10
    while _runs(child):
        assert time.time() < until
        time.sleep(0.01)


def test_asking_a_process_that_has_ended_does_nothing(tmp_path: Path) -> None:
    process = start_python("", tmp_path / "log.txt")
    process.wait()
    process.interrupt()
    process.interrupt()
    process.terminate()


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    process = start_python("", tmp_path / "log.txt")
    with passed_on_signals(process):
        process.wait()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
