"""Tensors that several processes have written, each its own rows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tunesmith.models.tensor_parts import (
    Joined,
    Rows,
    has_tensors,
    open_tensors,
    part_name,
    write_part,
)

WHOLE = {
    "matrix": torch.arange(20.0).reshape(5, 4),
    "vector": torch.arange(7.0),
    "one": torch.tensor([3.0]),
}
STEP = torch.tensor(12.0)


def write(folder: Path, size: int) -> None:
    """Write as `fully_shard` cuts: equal parts but the last, which may be empty."""
    for rank in range(size):
        tensors: dict[str, Tensor] = {"step": STEP} if rank == 0 else {}
        rows: dict[str, Rows] = {}
        for name, tensor in WHOLE.items():
            chunk = math.ceil(len(tensor) / size)
            start = min(len(tensor), rank * chunk)
            tensors[name] = tensor[start : start + chunk].clone()
            rows[name] = Rows(start, tuple(tensor.shape))
        write_part(folder / part_name("trained", rank, size), tensors, rows)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_parts_are_read_as_the_whole_tensors_that_they_were(tmp_path: Path, size: int) -> None:
    write(tmp_path, size)
    assert has_tensors(tmp_path, "trained")
    assert not has_tensors(tmp_path, "optimizer")
    found = open_tensors(tmp_path, "trained")
    assert isinstance(found, Joined)
    assert found.keys() == {*WHOLE, "step"}
    for name, tensor in {**WHOLE, "step": STEP}.items():
        assert found[name].equal(tensor), name
        assert found.shapes[name] == tuple(tensor.shape)


def test_one_file_goes_before_parts(tmp_path: Path) -> None:
    write(tmp_path, 2)
    safetensors.torch.save_file({"matrix": STEP.reshape(1)}, tmp_path / "trained.safetensors")
    assert open_tensors(tmp_path, "trained").keys() == {"matrix"}


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_part_that_is_missing_is_seen(tmp_path: Path, rank: int) -> None:
    write(tmp_path, 3)
    (tmp_path / part_name("trained", rank, 3)).unlink()
    with pytest.raises(ValueError, match=r"matrix: rows"):
        open_tensors(tmp_path, "trained")


def test_rows_that_are_there_twice_are_seen(tmp_path: Path) -> None:
    write(tmp_path, 2)
    (tmp_path / part_name("trained", 0, 1)).write_bytes(
        (tmp_path / part_name("trained", 0, 2)).read_bytes()
    )
    with pytest.raises(ValueError, match="follow on row"):
        open_tensors(tmp_path, "trained")
