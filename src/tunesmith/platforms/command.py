"""The command line of a run: one pure function, the same for every platform."""

from __future__ import annotations

from pathlib import PurePath


def run_command(
    folder: PurePath, *, python: str, processes: int = 1, on_ray: bool = False
) -> tuple[str, ...]:
    """The command that carries out the run whose recipe lies in `folder`, in so many processes."""
    module = "tunesmith.run" if processes == 1 else "tunesmith.launch"
    if on_ray:
        module = "tunesmith.platforms.ray"
    return (python, "-m", module, str(folder))
