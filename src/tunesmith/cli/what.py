"""What a command's words for a model mean here: a run by its name, an adapter with its weight."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.errors import Fault, UserError

RUNS = Path("runs")


def find_what(what: str) -> str:
    """A run may be given by its name in ./runs, where nothing here has that name."""
    named = RUNS / what
    is_run = not Path(what).exists() and (named / "resolved.json").is_file()
    return str(named) if is_run else what


def weighted_adapter(text: str) -> tuple[str, float]:
    """Return the folder and its weight; a folder's own name may hold an equals sign."""
    name, equals, number = text.rpartition("=")
    if not equals or Path(text).is_dir():
        return _adapter_folder(text), 1.0
    try:
        weight = float(number)
    except ValueError as error:
        fix = "write FOLDER or FOLDER=WEIGHT, e.g. --adapter runs/desk/final=0.5"
        fault = Fault(found=f"{number!r} is no number", where=f"--adapter {text}", fix=fix)
        raise UserError(fault) from error
    return _adapter_folder(name), weight


def _adapter_folder(name: str) -> str:
    """Return the adapter's folder; a run's is its final/."""
    found = Path(find_what(name)).expanduser()
    is_run = (found / "resolved.json").is_file()
    return str(found / "final" if is_run else found)
