"""What people are told when something goes wrong that no code foresaw."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core import hardware
from tunesmith.core.errors import Fault, RunError, TunesmithError
from tunesmith.core.out_of_memory import is_out_of_memory
from tunesmith.core.run_dir import RunDir, disk_error


def as_run_error(error: BaseException, run_dir: RunDir) -> TunesmithError:
    """What people are told of an error; one that is nobody's fault but ours says so."""
    if isinstance(error, TunesmithError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return disk_error(Path(error.filename or run_dir.path), error)
    if is_out_of_memory(error):
        fault = Fault(
            found="memory ran out",
            where=_which_memory(error),
            fix="end other programs, then resume; or set training.optimizer: adamw-8bit or a "
            "smaller model",
        )
        return RunError(fault, code="out_of_memory")
    fault = Fault(
        found=f"a fault in Tunesmith itself: {type(error).__name__}: {error}",
        where=str(run_dir.log),
        fix="report it with the log's last lines; `--resume` goes on from the last checkpoint",
    )
    return RunError(fault, code="internal")


def _which_memory(error: BaseException) -> str:
    """The host's, or a GPU's, of which the library says how much is whose."""
    text = str(error)
    if "GPU" in text:
        return text.partition(" If reserved but")[0]
    return f"{hardware.memory_limit_bytes():,} bytes on this machine"
