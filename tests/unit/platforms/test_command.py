import sys
from pathlib import PurePosixPath

from tunesmith.platforms.command import run_command


def test_a_run_is_started_as_a_module_by_name() -> None:
    command = run_command(PurePosixPath("/runs/a b"), python=sys.executable)
    assert command == (sys.executable, "-m", "tunesmith.run", "/runs/a b")


def test_several_processes_and_a_cluster_have_a_process_that_starts_them() -> None:
    folder = PurePosixPath("/runs/a")
    several = run_command(folder, python="python", processes=2)
    assert several == ("python", "-m", "tunesmith.launch", "/runs/a")
    cluster = run_command(folder, python="python", processes=2, on_ray=True)
    assert cluster == ("python", "-m", "tunesmith.platforms.ray", "/runs/a")
