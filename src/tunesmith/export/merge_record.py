"""What merge.json tells of a merged model: where it comes from, what was written, how it agrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.core.file_hash import file_sha256
from tunesmith.export.verify import Agreement
from tunesmith.export.what import Trained
from tunesmith.methods.adapter_files import WEIGHTS_FILE
from tunesmith.methods.merge import MergeDtype
from tunesmith.models.shards import WrittenFile
from tunesmith.recipe.adapter_config import library_word, read_adapter_config


def merge_record(
    trained: Trained,
    dtype: MergeDtype,
    files: Sequence[WrittenFile],
    *,
    merged_tensors: int,
    unties_head: bool,
) -> dict[str, Any]:
    """Where the result comes from, and what was written."""
    base = trained.base
    return {
        "tunesmith": __version__,
        "base": {"name": base.name, "origin": dict(base.origin), "sha256s": dict(base.sha256s)},
        "adapter": {
            "folder": str(trained.folder),
            **_kind(trained.folder),
            "sha256": file_sha256(trained.folder / WEIGHTS_FILE),
        },
        "system": trained.system,
        "dtype": dtype,
        "merged_tensors": merged_tensors,
        "unties_head": unties_head,
        "bytes": sum(file.bytes for file in files),
        "sha256s": {file.path.name: file.sha256 for file in files},
    }


def check_record(agreement: Agreement, computed: str) -> dict[str, Any]:
    """How the result agrees with what it was made from."""
    made_from = {"against": "the adapter on the original weights", "computed_in": computed}
    return {**made_from, **agreement.as_json()}


def rounded_record(trained: Trained, agreement: Agreement) -> dict[str, Any]:
    """How far the result is from what the run itself computed, whose base was rounded."""
    numbers = agreement.as_json()
    for judged in ("tolerance", "is_within_tolerance"):  # quantising is no rounding error of ours
        del numbers[judged]
    return {"base": trained.part.base, **numbers}


def _kind(folder: Path) -> dict[str, Any]:
    word = library_word(folder)
    if word is not None:
        return {"type": word}
    config = read_adapter_config(folder)
    return {"type": config.type, "rank": config.rank}
