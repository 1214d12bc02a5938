import sys
from pathlib import PurePosixPath

from tunesmith.platforms.command import run_command


def test_a_run_is_started_as_a_module_by_name() -> None:
    command = run_command(PurePosixPath("/runs/a b"), python=sys.executable)
    assert command == (sys.executable, "-m", "tunesmith.run", "/runs/a b")
