"""What a prepared file depends on. Any change makes another key, and the change has a name.

Content counts and never the time stamp: a file that was edited and put back to its old time is
another file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import orjson

import tunesmith
from tunesmith.core.file_hash import file_sha256
from tunesmith.data.formats import TaskName
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.source import DataFile
from tunesmith.recipe.data import DataPart

# These hold for rows that are ready, so one preparation serves all their values.
_APPLIED_LATER = {"train", "validation", "test", "max_length", "overflow", "stride", "on_bad_row"}

KeyParts = Mapping[str, str]


def key_parts(
    files: Sequence[DataFile],
    part: DataPart,
    task: TaskName | None,
    tokenizer: TokenizerSource | None,
    *,
    keep_below: float,
) -> KeyParts:
    """Return a hash or a value of everything that decides what the rows become, by name."""
    settings = {
        **part.model_dump(mode="json", exclude=_APPLIED_LATER),
        "task": task,
        "keep_below": keep_below,
        "tokenized": tokenizer is not None,
    }
    return {
        "file content": _hash_files(files),
        **(tokenizer.fingerprints() if tokenizer else {}),
        "settings": orjson.dumps(settings, option=orjson.OPT_SORT_KEYS).decode(),
        "version of Tunesmith": _hash_of_code(),
    }


def key_of(parts: KeyParts) -> str:
    """Return the folder name of a prepared file."""
    text = orjson.dumps(dict(parts), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:32]


def what_changed(before: KeyParts | None, now: KeyParts) -> str:
    """Return why a preparation does not serve any more, in words."""
    if before is None:
        return "not prepared before"
    changed = [name for name, value in now.items() if before.get(name) != value]
    return f"{', '.join(changed)} changed" if changed else "the prepared rows were deleted"


def _hash_files(files: Sequence[DataFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(repr((file.shown, file.kind, file.columns)).encode())
        for path in (file.path, *file.beside):
            digest.update(file_sha256(path).encode())
    return digest.hexdigest()


@cache
def _hash_of_code() -> str:
    """Hash the code that makes rows ready: a version number alone is forgotten too easily."""
    root = Path(tunesmith.__file__).parent
    digest = hashlib.sha256()
    for path in sorted((root / "data").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
