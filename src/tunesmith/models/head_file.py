"""head.json beside trained weights: what the head of a model says, and the task that it learned."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.run_dir import write_json
from tunesmith.models.folder import read_json
from tunesmith.models.headed import Head

HEAD_FILE = "head.json"
KINDS = ("classes", "tags", "span")


def write_head(folder: Path, head: Head) -> None:
    """Write what a head says."""
    write_json(folder / HEAD_FILE, asdict(head))


def read_head(folder: Path) -> Head | None:
    """Return what the head of a folder's model says; None where it has none.

    Raises:
        ModelError: the file is not one of these.
    """
    file = folder / HEAD_FILE
    if not file.is_file():
        return None
    values: dict[str, Any] = read_json(file)
    labels = values.get("labels")
    if values.get("kind") not in KINDS or not isinstance(labels, list):
        fix = "copy the folder again from where it was trained"
        raise ModelError(Fault(found=f"not a head's file: {values}", where=str(file), fix=fix))
    named = tuple(map(str, labels))  # pyright: ignore[reportUnknownArgumentType]
    several, abstains = bool(values.get("several")), bool(values.get("abstains"))
    return Head(values["kind"], named, several, abstains)
