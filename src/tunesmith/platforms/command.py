"""The command line of a run: one pure function, the same for every platform."""

from __future__ import annotations

from pathlib import PurePath


def run_command(folder: PurePath, *, python: str) -> tuple[str, ...]:
    """The command that carries out the run whose recipe lies in `folder`."""
    return (python, "-m", "tunesmith.run", str(folder))
