"""`tunesmith train` as one of several ranks that another launcher has started.

Rank 0 prepares the run's folder and shows the run; every other rank waits for the folder and
carries out its part without a word. One that fails ends last: a launcher ends all processes, some
within a second, once one has failed, and rank 0 is to say why before.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tunesmith.core.errors import Fault, RunError, UserError
from tunesmith.core.rank_failures import tell_end
from tunesmith.core.rank_place import RankPlace, rank_place
from tunesmith.core.run_dir import RunDir, describe_status
from tunesmith.core.stopping import INTERRUPTED, PAUSED
from tunesmith.platforms.command import run_command
from tunesmith.platforms.local import passed_on_signals, start

LOOK_EVERY_S = 0.2
# Rank 0 waits for a word of the one that has failed (core/rank_failures.py), tells it and ends.
RANK_0_TELLS_S = 12.0
RANK_0_ENDS_S = 1.0


def find_place(run_dir: Path | None) -> RankPlace | None:
    """Return this process's place among ranks; None where it is alone.

    Raises:
        UserError: the ranks are not told the folder that they share.
    """
    place = rank_place()
    if place is None or place.size == 1:
        return None
    if run_dir is None:
        fix = "name it for all ranks: tunesmith train ... --run-dir FOLDER"
        found = f"{place.size} ranks without the folder of their run"
        raise UserError(Fault(found=found, where="the command line", fix=fix))
    return place


def carry_out_rank(folder: Path, place: RankPlace) -> int:
    """Carry out one rank's part of the run in `folder`; return its exit code."""
    run_dir = RunDir(folder.expanduser().absolute())
    while not run_dir.resolved_json.is_file():  # the launcher ends us where rank 0 fails before
        time.sleep(LOOK_EVERY_S)
    own = run_dir.of_rank(place.rank)
    own.path.mkdir(parents=True, exist_ok=True)
    process = start(run_command(run_dir.path, python=sys.executable), log=own.log)
    with passed_on_signals(process):
        code = process.wait()
        if code not in (0, PAUSED, INTERRUPTED):
            tell_end(run_dir, place.rank, code)
            _let_rank_0_tell(run_dir)
    return code if code >= 0 else RunError.exit_code


def _let_rank_0_tell(run_dir: RunDir) -> None:
    deadline = time.monotonic() + RANK_0_TELLS_S
    while describe_status(run_dir.read_state()) == "running" and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    time.sleep(RANK_0_ENDS_S)
