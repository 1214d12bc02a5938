"""What a rank's process has written since it was last asked, for a folder on another machine.

Of files that only grow the new lines go, of others the whole where they have changed. Checkpoints
and what a run makes at its end go through the object store instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.core.errors import Fault
from tunesmith.core.run_dir import RunDir, write_bytes
from tunesmith.platforms.stored_run import files_below, mirrored, stamp_of

GROWING = ("events.jsonl", "log.txt")
# Once; what is larger is fetched from the store at the end.
MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Change:
    """New content of a file, by its name in the run's folder: all of it, or what was added."""

    name: str
    content: bytes
    is_added: bool


@dataclass(frozen=True, kw_only=True)
class News:
    """What a rank has to tell; `unsent` is why the store has not got everything."""

    changes: list[Change]
    messages: list[str] = field(default_factory=list[str])
    unsent: Fault | None = None


@dataclass(frozen=True)
class Told:
    """How far the files of a folder have been told: bytes of those that grow, stamps of others."""

    offsets: dict[str, int] = field(default_factory=dict[str, int])
    stamps: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def files_of_rank(run_dir: RunDir, rank: int) -> Iterator[tuple[str, Path]]:
    """Yield the files that a rank writes, by their names in the run's folder."""
    if rank == 0:
        yield from mirrored(run_dir.path, is_over=False)
    own = [run_dir.ranks / f"beat-{rank}", run_dir.ranks / f"stacks-{rank}.txt"]
    folder = run_dir.ranks / f"rank-{rank}"
    for file in (*(one for one in own if one.is_file()), *files_below(folder)):
        yield str(file.relative_to(run_dir.path)), file


def pass_over(run_dir: RunDir, rank: int, told: Told) -> None:
    """Take what is there already for told."""
    for name, file in files_of_rank(run_dir, rank):
        if file.name in GROWING:
            told.offsets[name] = file.stat().st_size
        elif stamp := stamp_of(file):
            told.stamps[name] = stamp


def changes_of(run_dir: RunDir, rank: int, told: Told) -> list[Change]:
    """Return what is new in a rank's files, and count it as told."""
    found = [
        _added(name, file, told) if file.name in GROWING else _changed(name, file, told)
        for name, file in files_of_rank(run_dir, rank)
    ]
    return [change for change in found if change is not None]


def put_down(change: Change, folder: Path) -> None:
    """Write a change into a run's folder of this machine.

    Raises:
        RunError: the disk is full or cannot be written.
    """
    file = folder / change.name
    file.parent.mkdir(parents=True, exist_ok=True)
    if not change.is_added:
        write_bytes(file, change.content)
        return
    with file.open("ab", buffering=0) as target:
        target.write(change.content)


def _added(name: str, file: Path, told: Told) -> Change | None:
    offset = told.offsets.get(name, 0)
    try:
        with file.open("rb") as source:
            source.seek(offset)
            content = source.read(MOST_BYTES)
    except FileNotFoundError:
        return None
    # half an event may be followed by another's
    whole = content[: content.rfind(b"\n") + 1] if file.suffix == ".jsonl" else content
    if not whole:
        return None
    told.offsets[name] = offset + len(whole)
    return Change(name=name, content=whole, is_added=True)


def _changed(name: str, file: Path, told: Told) -> Change | None:
    stamp = stamp_of(file)
    if stamp is None or told.stamps.get(name) == stamp or stamp[1] > MOST_BYTES:
        return None
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    told.stamps[name] = stamp
    return Change(name=name, content=content, is_added=False)
