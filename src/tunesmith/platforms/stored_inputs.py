"""The files that a recipe names on the machine where it was written, for nodes that have them not.

Each file is sent once, by the hash of its content; a list says which path each belongs to. A node
keeps what it has fetched in its cache, and has the files below a folder of the run by the paths
that they have in the recipe (core/placed.py).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from tunesmith.core.cache import cache_root, cache_writes, lock
from tunesmith.core.errors import Fault, MachineError
from tunesmith.core.file_hash import file_sha256
from tunesmith.core.placed import known_beginning
from tunesmith.data.source import find_files
from tunesmith.models.source import locate
from tunesmith.platforms.object_store import CODE, ObjectStore
from tunesmith.platforms.stored_run import StoredRun
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import DeepSpeedStrategy

INPUTS = "inputs"
LIST = "inputs.json"


def send_inputs(
    recipe: Recipe, run: StoredRun, between: Callable[[], None] = lambda: None
) -> list[str]:
    """Send what the store does not have yet, and the list; return the files that were sent.

    `between` is called before each file, and may raise.

    Raises:
        UserError: a file of the recipe is not there.
        MachineError: the store does not take them.
    """
    listed: dict[str, dict[str, str | int]] = {}
    new: list[str] = []
    for file in files_of(recipe):
        between()
        content = {"sha256": file_sha256(file), "bytes": file.stat().st_size}
        listed[str(file)] = content
        name = f"{INPUTS}/{content['sha256']}"
        if run.store.size(name) != content["bytes"]:
            run.store.put(name, file)
            new.append(str(file))
    run.store.put_bytes(f"{run.name}/{LIST}", orjson.dumps(listed))
    return new


def fetch_inputs(run: StoredRun, root: Path) -> None:
    """Have the recipe's files below `root`.

    Raises:
        MachineError: the store does not give them, or others than were sent.
    """
    content = run.store.get_bytes(f"{run.name}/{LIST}")
    listed = orjson.loads(content) if content else {}
    for path, one in listed.items():
        kept = _kept(run.store, str(one["sha256"]))
        here = Path(f"{root}{path}")
        with cache_writes(here):
            here.parent.mkdir(parents=True, exist_ok=True)
            here.unlink(missing_ok=True)
            try:
                os.link(kept, here)
            except OSError:  # a disk without links
                shutil.copyfile(kept, here)


def files_of(recipe: Recipe) -> list[Path]:
    """Return the files on this machine that a recipe names; names of other kinds are no files.

    Raises:
        UserError: one is not there.
    """
    found = [*_model_files(recipe), *_data_files(recipe)]
    if isinstance(recipe.method, LoraMethod) and recipe.method.adapter is not None:
        found += _below(Path(recipe.method.adapter))
    if isinstance(recipe.strategy, DeepSpeedStrategy) and recipe.strategy.config is not None:
        found.append(Path(recipe.strategy.config))
    return list(dict.fromkeys(found))


def _model_files(recipe: Recipe) -> Iterator[Path]:
    located = locate(recipe.model.source, recipe.model.revision)
    if located.path is None:
        return
    yield from _below(located.path) if located.path.is_dir() else (located.path,)


def _data_files(recipe: Recipe) -> Iterator[Path]:
    data = recipe.data
    for source in (data.train, data.validation, data.test):
        if not isinstance(source, str) or not source.startswith("/"):
            continue
        beginning = known_beginning(source)
        for file in find_files(source):
            for path in (file.path, *file.beside):
                if str(path).startswith(beginning):  # else it is from elsewhere, by name
                    yield path


def _below(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _kept(store: ObjectStore, sha256: str) -> Path:
    """Return the file of this content in the cache, fetched once for all runs of this machine."""
    kept = cache_root() / "fetched" / sha256
    with lock(f"fetched-{sha256[:2]}", on_progress=lambda _: None), cache_writes(kept):
        if kept.is_file():
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        half = kept.with_name(f".{sha256}")
        store.get(f"{INPUTS}/{sha256}", half)
        if file_sha256(half) != sha256:
            half.unlink()
            fault = Fault(
                found="a file in the object store is not what was sent",
                where=f"{store.url.partition('?')[0]}/{INPUTS}/{sha256}",
                fix="delete it there, and start the run again",
            )
            raise MachineError(fault, code=CODE)
        half.replace(kept)
    return kept
