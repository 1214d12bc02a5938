"""A run's folder in an object store: what is in it, in which order it is sent, what counts.

    NAME/                  the run's folder, by the names that its files have there
    NAME/checkpoints/step-N/manifest.json    sent last: a checkpoint without it is not one
    NAME/files.json        sent last, when the run has ended: every other file's size and sha256
    inputs/SHA256          files of recipes (stored_inputs.py)

What is fetched is held beside its manifest. A checkpoint that is not whole is passed over.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from tunesmith.core.errors import Fault, MachineError
from tunesmith.core.file_hash import file_sha256
from tunesmith.core.run_dir import RunDir, read_json, write_json
from tunesmith.platforms.object_store import CODE, ObjectStore, open_store

CHECKPOINTS, MANIFEST, FILES = "checkpoints", "manifest.json", "files.json"
STEP = re.compile(r"step-(\d+)")
PLACE = "storage.json"
# What is each machine's own, or goes another way.
OWN = ("lock", "control", PLACE)
# Folders that are written while a run goes on, or belong to a machine.
NOT_MIRRORED = (CHECKPOINTS, "ranks")
AT_THE_END = ("final", "exports")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class StoredRun:
    """A run's folder in a store."""

    store: ObjectStore
    name: str

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return f"{self.store.url.partition('?')[0]}/{self.name}"

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints whose manifest is there, newest first.

        Raises:
            MachineError: the store does not say.
        """
        names = self.store.sizes(f"{self.name}/{CHECKPOINTS}")
        found = (STEP.fullmatch(Path(name).parent.name) for name in names if _is_manifest(name))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def send_checkpoint(self, folder: Path) -> None:
        """Send a whole checkpoint, its manifest last.

        Raises:
            MachineError: the store does not take it.
            FileNotFoundError: it was deleted meanwhile, or is not whole.
        """
        at = f"{self.name}/{CHECKPOINTS}/{folder.name}"
        try:
            files = _files_of(_parsed((folder / MANIFEST).read_bytes()))
        except _Damaged as damage:
            raise FileNotFoundError(f"{folder}: {damage}") from damage
        for name in files:
            self.store.put(f"{at}/{name}", folder / name)
        self.store.put(f"{at}/{MANIFEST}", folder / MANIFEST)

    def delete_checkpoint(self, step: int) -> None:
        """Delete a checkpoint, its manifest first.

        Raises:
            MachineError: the store does not do it.
        """
        at = f"{self.name}/{CHECKPOINTS}/step-{step}"
        self.store.delete(f"{at}/{MANIFEST}")
        for name in self.store.sizes(at):
            self.store.delete(f"{at}/{name}")

    def fetch_checkpoints(self, folder: Path, *, only_newest: bool, tell: Tell) -> None:
        """Fetch checkpoints that are whole and not in `folder` yet; others are told.

        Raises:
            MachineError: the store does not answer.
            OSError: they cannot be written here.
        """
        for step in self.steps():
            is_whole = (folder / f"step-{step}").is_dir() or self._fetch_checkpoint(
                step, folder, tell
            )
            if is_whole and only_newest:
                return

    def _fetch_checkpoint(self, step: int, folder: Path, tell: Tell) -> bool:
        at, half = f"{self.name}/{CHECKPOINTS}/step-{step}", folder / f".step-{step}.fetched"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        try:
            self.store.get(f"{at}/{MANIFEST}", half / MANIFEST)
            for name, expected in _files_of(_parsed((half / MANIFEST).read_bytes())).items():
                if self.store.size(f"{at}/{name}") != expected["bytes"]:
                    raise _Damaged(f"{name} is missing or has another size")
                self.store.get(f"{at}/{name}", half / name)
                if file_sha256(half / name) != expected["sha256"]:
                    raise _Damaged(f"the content of {name} changed")
            half.rename(folder / f"step-{step}")
        except _Damaged as damage:
            tell(
                f"passing over the damaged checkpoint {self.url}/{CHECKPOINTS}/step-{step}: "
                f"{damage}"
            )
            return False
        finally:
            shutil.rmtree(half, ignore_errors=True)
        return True

    def send_files(self, folder: Path, sent: Sent, *, is_over: bool = False) -> None:
        """Send the run's other files that are new or changed; at the end all of them.

        Raises:
            MachineError: the store does not take them.
        """
        for name, file in mirrored(folder, is_over=is_over):
            stamp = stamp_of(file)
            if stamp is None or sent.stamps.get(name) == stamp:
                continue
            try:
                self.store.put(f"{self.name}/{name}", file)
            except FileNotFoundError:  # it was replaced or deleted meanwhile
                continue
            sent.stamps[name] = stamp
        if is_over:
            files = {
                name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
                for name, file in mirrored(folder, is_over=True)
            }
            self.store.put_bytes(f"{self.name}/{FILES}", orjson.dumps({"files": files}))

    def fetch_small_files(self, folder: Path) -> None:
        """Fetch what a run that goes on has: all but checkpoints and what is made at its end.

        Raises:
            MachineError: the store does not give them.
            OSError: they cannot be written here.
        """
        left_out = (*NOT_MIRRORED, *AT_THE_END)
        for name in self.store.sizes(self.name):
            if (
                name.partition("/")[0] in left_out
                or name in (FILES, "log.txt")
                or name.endswith(".tmp")
            ):
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self.store.get(f"{self.name}/{name}", folder / name)

    def fetch_results(self, folder: Path, *, but: tuple[str, ...]) -> None:
        """Fetch what the run has left, as its list of files says, where it is not here yet.

        Raises:
            MachineError: the store does not give it, or not what was sent.
            OSError: it cannot be written here.
        """
        content = self.store.get_bytes(f"{self.name}/{FILES}")
        try:
            listed = _files_of(_parsed(content)) if content else {}
        except _Damaged as damage:
            raise _changed(f"{self.url}/{FILES}") from damage
        for name, expected in listed.items():
            file = folder / name
            if name in but or (file.is_file() and file_sha256(file) == expected["sha256"]):
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            self.store.get(f"{self.name}/{name}", file)
            if file_sha256(file) != expected["sha256"]:
                file.unlink()
                raise _changed(f"{self.url}/{name}")


@dataclass(frozen=True)
class Sent:
    """What has been sent of a folder: each file's time and size then."""

    stamps: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def mirrored(folder: Path, *, is_over: bool) -> Iterator[tuple[str, Path]]:
    """Yield the files of a run's folder that are kept in the store beside its checkpoints."""
    left_out = NOT_MIRRORED if is_over else (*NOT_MIRRORED, *AT_THE_END)
    for file in files_below(folder, but=left_out):
        name = str(file.relative_to(folder))
        if name not in OWN:
            yield name, file


def files_below(folder: Path, *, but: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the files below a folder that others write to: no hidden ones, nor folders in `but`."""
    for place, folders, files in os.walk(folder):  # which passes over what is gone meanwhile
        is_top = place == str(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and not (is_top and (name in but or name.startswith("ranks-lost-")))
        )
        yield from (Path(place, name) for name in sorted(files) if not name.startswith("."))


def whole_steps(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their steps; the run itself holds them to be whole."""
    found = ((STEP.fullmatch(path.name), path) for path in folder.glob("step-*"))
    return {int(match[1]): path for match, path in found if match and (path / MANIFEST).is_file()}


def bring_back(run_dir: RunDir, url: str | None, tell: Tell) -> None:
    """Fetch the newest checkpoint of a run that was in a store and goes on without it.

    `url` is the store with which it goes on, if any.

    Raises:
        UserError: the store cannot be used.
    """
    place = read_place(run_dir)
    if place is None or place["url"] == url:
        return
    run = StoredRun(open_store(place["url"]), place["name"])
    run_dir.checkpoints.mkdir(exist_ok=True)
    run.fetch_checkpoints(run_dir.checkpoints, only_newest=True, tell=tell)


def stamp_of(file: Path) -> tuple[int, int] | None:
    """Return what changes with a file's content; None where it is gone."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def read_place(run_dir: RunDir) -> dict[str, str] | None:
    """Return the URL and the name of a run's folder in a store, where it has one."""
    file = run_dir.path / PLACE
    return cast("dict[str, str]", read_json(file)) if file.is_file() else None


def write_place(run_dir: RunDir, url: str, name: str) -> None:
    """Keep where a run's folder in a store is."""
    write_json(run_dir.path / PLACE, {"url": url, "name": name})


class _Damaged(Exception):
    """A checkpoint in the store is not what was sent."""


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _Damaged(f"its list of files is no JSON: {error}") from error


def _files_of(content: Any) -> Mapping[str, Mapping[str, Any]]:
    files = cast("dict[str, Any]", content).get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files:
        raise _Damaged("its list of files names none")
    return cast("dict[str, dict[str, Any]]", files)


def _is_manifest(name: str) -> bool:
    return name.endswith(f"/{MANIFEST}")


def _changed(place: str) -> MachineError:
    fault = Fault(
        found="the file in the object store is not what the run has sent",
        where=place,
        fix="see whether somebody has changed it; go on from the last checkpoint with --resume",
    )
    return MachineError(fault, code=CODE)
