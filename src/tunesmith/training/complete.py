"""Compares what a save has written with the model: each tensor's name and shape, and their values.

An engine that spreads weights over processes leaves tensors without values in their places. A file
of these is small and loads nowhere, and looks like any other save until it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from torch import Tensor

from tunesmith.core.errors import Fault, RunError
from tunesmith.methods.base import Shape
from tunesmith.models.folder import stored_tensors
from tunesmith.models.tensor_parts import Joined, open_tensors

Found = TypeVar("Found")

MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW: as large as their value


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def require_complete(
    folder: Path, expected: Mapping[str, Shape], files: str = "*.safetensors"
) -> None:
    """See to it that the files of this pattern hold these tensors together, and no others.

    Raises:
        RunError: one is missing, is not the model's, or has another shape; the first is named.
        OSError: a file cannot be read.
    """
    held: dict[str, Shape] = {}
    places: dict[str, Path] = {}
    for file in sorted(folder.glob(files)):
        found = _shapes_in(file)
        held |= found
        places |= dict.fromkeys(found, file)
    _require_same(folder, held, places, expected)


def require_joined(folder: Path, word: str, expected: Mapping[str, Shape]) -> None:
    """See to it that the parts called so (models/tensor_parts.py) make these tensors.

    Raises:
        RunError: they do not; the first that is wrong is named.
    """
    _require_same(folder, joined_shapes(folder, word), {}, expected)


def joined_shapes(folder: Path, word: str) -> dict[str, Shape]:
    """Return the shapes of what parts make together.

    Raises:
        RunError: they make no whole.
    """
    found = _or_unreadable(folder, lambda: open_tensors(folder, word))
    assert isinstance(found, Joined), "the parts have no file of their name beside them"
    return found.shapes


def _require_same(
    folder: Path,
    held: Mapping[str, Shape],
    places: Mapping[str, Path],
    expected: Mapping[str, Shape],
) -> None:
    for name in [*expected, *(held.keys() - expected.keys())]:
        ours, own = held.get(name), expected.get(name)
        if ours == own:
            continue
        wrong = f"{name} of shape {list(ours)}" if ours is not None else f"no {name}"
        wanted = f"its shape is {list(own)}" if own is not None else "there is no such tensor"
        wrong = f"{wrong}; in the model {wanted}"
        raise _incomplete(places.get(name, folder), wrong, held, expected)


def require_moments(file: Path, expected: Mapping[str, Shape]) -> None:
    """See to it that AdamW's moments in a file have the shapes of their values.

    Raises:
        RunError: one has another shape, or its value is not among `expected`.
    """
    require_moments_like(_shapes_in(file), expected, file)


def require_moments_like(
    found: Mapping[str, Shape], expected: Mapping[str, Shape], file: Path
) -> None:
    """See to it that AdamW's moments, of these shapes, are as large as their values.

    Raises:
        RunError: one has another shape, or its value is not among `expected`.
    """
    moments = {key: shape for key, shape in found.items() if key.endswith(MOMENTS)}
    wanted = {key: expected.get(key.rpartition("/")[0], ()) for key in moments}
    for key, shape in moments.items():
        if shape != wanted[key]:
            wrong = f"{key} of shape {list(shape)}; its value's is {list(wanted[key])}"
            raise _incomplete(file, wrong, moments, wanted)


def _shapes_in(file: Path) -> dict[str, Shape]:
    tensors = _or_unreadable(file, lambda: stored_tensors(file))
    return {tensor.name: tensor.shape for tensor in tensors}


def _or_unreadable(file: Path, read: Callable[[], Found]) -> Found:
    try:
        return read()
    except (ValueError, SafetensorError) as error:
        fix = "try again, and another disk where it happens again"
        fault = Fault(found=f"what was written cannot be read: {error}", where=str(file), fix=fix)
        raise RunError(fault, code="incomplete_save") from error


def _incomplete(
    file: Path, wrong: str, held: Mapping[str, Shape], expected: Mapping[str, Shape]
) -> RunError:
    fault = Fault(
        found=f"what was saved is not what was trained: {wrong} ({_count(held)} were written, "
        f"{_count(expected)} belong there)",
        where=str(file),
        fix="resume from the last checkpoint with strategy: ddp or single, and report this with "
        "the recipe",
    )
    return RunError(fault, code="incomplete_save")


def _count(shapes: Mapping[str, Shape]) -> str:
    values = sum(math.prod(shape) for shape in shapes.values())
    return f"{len(shapes):,} tensors of {values:,} values"
