"""Offload to a disk: what it needs, where its files are, and that they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import MachineError, RecipeError
from tunesmith.core.rank_place import RankPlace
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.strategy import DdpStrategy, DeepSpeedStrategy
from tunesmith.training.strategies import offload
from tunesmith.training.strategies.offload import (
    offload_files,
    offload_folder,
    require_offload_room,
)


def on_disk(folder: Path, **parts: Any) -> DeepSpeedStrategy:
    values = {"type": "deepspeed", "zero": 3, "offload": "disk", "offload_path": str(folder)}
    return DeepSpeedStrategy.model_validate({**values, **parts})


@pytest.mark.parametrize(
    ("strategy", "found", "where"),
    [
        ({"zero": 2, "offload": "disk", "offload_path": "/x"}, "disk with ZeRO 2", "strategy.zero"),
        ({"zero": 3, "offload": "disk"}, "no folder for it", "strategy.offload_path"),
        ({"zero": 3, "offload_path": "/x"}, "nothing is to lie", "strategy.offload_path"),
        (
            {"zero": 2, "offload": "cpu", "offload_path": "/x"},
            "nothing is",
            "strategy.offload_path",
        ),
    ],
)
def test_what_does_not_go_with_a_disk_is_refused(strategy: Any, found: str, where: str) -> None:
    recipe = {"model": "m", "task": "chat", "data": {"train": "f"}}
    with pytest.raises(RecipeError) as caught:
        load_recipe({**recipe, "strategy": {"type": "deepspeed", **strategy}})
    (fault,) = caught.value.faults
    assert found in fault.found
    assert where in fault.where


def test_runs_that_share_a_disk_have_folders_of_their_own(tmp_path: Path) -> None:
    strategy = on_disk(tmp_path)
    first, again, other = (
        offload_folder(strategy, tmp_path / run) for run in ("a/run", "a/run", "b/run")
    )
    assert first == again != other
    assert first is not None
    assert first.parent == tmp_path
    assert offload_folder(DdpStrategy(), tmp_path) is None


def test_each_rank_removes_its_own_files_the_last_one_the_folder(tmp_path: Path) -> None:
    strategy, run = on_disk(tmp_path), tmp_path / "run"
    folder = offload_folder(strategy, run)
    assert folder is not None

    def write(rank: int) -> Path:
        own = folder / "zero_stage_3" / "optimizer" / f"rank{rank}"
        own.mkdir(parents=True, exist_ok=True)
        (own / "1.tensor.swp").write_bytes(b"1")
        return own

    write(0)  # by a process that was killed
    places = [
        RankPlace(rank=rank, size=2, local_rank=rank, local_size=2, meeting="") for rank in (0, 1)
    ]
    with offload_files(strategy, run, places[0]):
        assert not folder.exists()
        write(0)
        with offload_files(strategy, run, places[1]):
            write(1)
        assert (folder / "zero_stage_3/optimizer/rank0/1.tensor.swp").is_file()
    assert list(tmp_path.iterdir()) == []


def test_files_go_where_the_run_fails_too(tmp_path: Path) -> None:
    strategy, run = on_disk(tmp_path), tmp_path / "run"
    place = RankPlace(rank=0, size=1, local_rank=0, local_size=1, meeting="")
    folder = offload_folder(strategy, run)
    assert folder is not None

    def fail() -> None:
        with offload_files(strategy, run, place):
            (folder / "zero_stage_3/optimizer/rank0").mkdir(parents=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_or_that_takes_no_word_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(_: Path) -> int:
        return 1000

    monkeypatch.setattr(offload, "free_disk_bytes", free)
    require_offload_room(on_disk(tmp_path), tmp_path / "run", 1000)
    with pytest.raises(MachineError, match="1,001 bytes, and 1,000 are free"):
        require_offload_room(on_disk(tmp_path), tmp_path / "run", 1001)
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="Not a directory"):
        require_offload_room(on_disk(tmp_path / "file"), tmp_path / "run", 0)
    require_offload_room(DdpStrategy(), tmp_path / "run", 10**18)
