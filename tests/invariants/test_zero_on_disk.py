"""Invariant 1 for ZeRO whose state lies on a disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.fakes.disk_training import halt_on_disk, on_disk, resume_on_disk, train_on_disk
from tests.fakes.long_cases import long
from tests.fakes.rank_training import Case, assert_same, halt, resume, train
from tests.fakes.ranks import in_ranks
from tunesmith.recipe.strategy import DeepSpeedStrategy

pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")


@pytest.mark.parametrize(
    "case",
    [
        Case("full"),
        *long(
            [
                Case("lora"),
                Case("dora"),
                Case("full", dtype=torch.bfloat16),
                Case("full", recompute=True),
            ]
        ),
    ],
    ids=str,
)
def test_two_ranks_make_the_steps_of_one(case: Case, tmp_path: Path) -> None:
    (one,) = in_ranks(train, 1, case)
    spread = replace(case, strategy=on_disk(tmp_path / "disk"))
    (found, files), (_, others) = in_ranks(train_on_disk, 2, spread)
    assert_same(found, one, rel=1e-4 if case.dtype == torch.float32 else 1e-2)
    assert files
    assert others
    # An adapter's gradients are each too small to be moved; its values and moments go as a group.
    gradients = ["gradient"] if case.method == "full" else []
    for word in ("exp_avg-", "exp_avg_sq-", "_param.tensor", *gradients):
        assert any(word in file for file in files), (word, files)


@pytest.mark.long
def test_resuming_equals_never_stopping(tmp_path: Path) -> None:
    case = Case("full", strategy=on_disk(tmp_path / "disk"))
    (whole, _), _ = in_ranks(train_on_disk, 2, case)
    in_ranks(halt_on_disk, 2, case, tmp_path, 1)
    again, _ = in_ranks(resume_on_disk, 2, case, tmp_path)
    assert again.losses == pytest.approx(whole.losses[1:], rel=1e-6)
    for name, value in whole.values.items():
        assert again.values[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.long
@pytest.mark.parametrize("is_first_on_disk", [True, False])
def test_a_run_goes_on_with_and_without_a_disk(is_first_on_disk: bool, tmp_path: Path) -> None:
    disk = Case("full", strategy=on_disk(tmp_path / "disk"))
    memory = replace(disk, strategy=DeepSpeedStrategy(type="deepspeed", zero=3))
    (whole,) = in_ranks(train, 1, disk)
    if is_first_on_disk:
        in_ranks(halt_on_disk, 2, disk, tmp_path, 2)
        again, *_ = in_ranks(resume, 3, memory, tmp_path)
    else:
        in_ranks(halt, 3, memory, tmp_path, 2)
        again, *_ = in_ranks(resume_on_disk, 2, disk, tmp_path)
    assert again.losses == pytest.approx(whole.losses[2:], rel=1e-4)
    for name, value in whole.values.items():
        assert again.values[name] == pytest.approx(value, abs=1e-3), name
