"""Invariant 1 for DeepSpeed's ZeRO: the steps of one rank, whatever is spread over several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.rank_training import Case, assert_equal, assert_same, halt, resume, train
from tests.fakes.ranks import in_ranks
from tunesmith.recipe.strategy import DeepSpeedStrategy

pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")


def zero(stage: int, **settings: Any) -> DeepSpeedStrategy:
    return DeepSpeedStrategy.model_validate({"type": "deepspeed", "zero": stage, **settings})


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_two_ranks_make_the_steps_of_one(method: str, stage: int) -> None:
    case = Case(method, strategy=zero(stage))
    (one,) = in_ranks(train, 1, case)
    first, second = in_ranks(train, 2, case)
    assert_same(first, one)
    assert_equal(first, second)


@pytest.mark.parametrize(
    "case",
    [
        Case("lora", base="nf4", strategy=zero(2)),
        Case("lora", dtype=torch.bfloat16, strategy=zero(2)),
        Case("lora", dtype=torch.bfloat16, strategy=zero(3)),
        Case("full", dtype=torch.bfloat16, strategy=zero(2)),
        Case("full", dtype=torch.bfloat16, strategy=zero(3)),
        Case("ia3", strategy=zero(2)),
        Case(preference="dpo", strategy=zero(2)),
        Case(preference="orpo", strategy=zero(3)),
        Case(preference="kto", strategy=zero(1)),
        Case("lora", recompute=True, strategy=zero(3)),
        Case("lora", silent_row=7, strategy=zero(3)),
        Case("lora", silent_row=6, strategy=zero(2)),
        Case("lora", strategy=zero(2, offload="cpu")),
        Case("full", strategy=zero(3, offload="cpu")),
        Case("full", head="classes", strategy=zero(2)),
        Case("lora", head="tags", strategy=zero(1)),
    ],
    ids=str,
)
def test_what_zero_goes_together_with(case: Case) -> None:
    (one,) = in_ranks(train, 1, case)
    first, second = in_ranks(train, 2, case)
    assert_same(first, one, rel=1e-4 if case.dtype == torch.float32 else 1e-2)
    assert_equal(first, second)


@pytest.mark.parametrize("stage", [1, 3])
def test_resuming_equals_never_stopping(stage: int, tmp_path: Path) -> None:
    case = Case("dora", dropout=0.2, strategy=zero(stage))
    whole, _ = in_ranks(train, 2, case)
    in_ranks(halt, 2, case, tmp_path, 1)
    again, _ = in_ranks(resume, 2, case, tmp_path)
    assert again.losses == pytest.approx(whole.losses[1:], rel=1e-6)
    for name, value in whole.values.items():
        assert again.values[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize(
    ("stage", "before", "after"), [(2, 2, 1), (3, 2, 1), (2, 1, 2), (3, 1, 2), (3, 2, 3)]
)
def test_another_number_of_ranks_goes_on_the_same(
    stage: int, before: int, after: int, tmp_path: Path
) -> None:
    case = Case("full", strategy=zero(stage))
    (whole,) = in_ranks(train, 1, case)
    in_ranks(halt, before, case, tmp_path, 2)
    again, *_ = in_ranks(resume, after, case, tmp_path)
    assert again.losses == pytest.approx(whole.losses[2:], rel=1e-4)
    for name, value in whole.values.items():
        assert again.values[name] == pytest.approx(value, abs=1e-3), name


def test_settings_of_the_engines_own_change_no_numbers(tmp_path: Path) -> None:
    file = tmp_path / "engine.json"
    settings = {"zero_optimization": {"stage": 2, "reduce_bucket_size": 1000}}
    file.write_text(json.dumps({**settings, "train_batch_size": "auto"}))
    case = Case("full", strategy=zero(2, config=str(file)))
    (one,) = in_ranks(train, 1, case)
    first, second = in_ranks(train, 2, case)
    assert_same(first, one)
    assert_equal(first, second)
