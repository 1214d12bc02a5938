"""The `tunesmith` command with fake_run.py in the place of the run's process."""

import sys
from pathlib import Path

from tunesmith.cli import launch
from tunesmith.cli.main import main

FAKE = Path(__file__).with_name("fake_run.py")
launch.run_command = lambda folder, *, python, **_: (python, str(FAKE), str(folder))

if __name__ == "__main__":
    sys.exit(main())
