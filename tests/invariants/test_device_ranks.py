"""Invariant: several ranks on devices beside the CPU make the steps of one rank on the CPU.

Each rank has a device of its own, numbered 0 in all of them. What is exchanged is on the device or
in the host's memory, never on both sides in one exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.pretend_device import begin
from tests.fakes.rank_training import (
    Case,
    Trained,
    assert_equal,
    assert_same,
    halt,
    resume,
    train,
)
from tests.fakes.ranks import in_ranks
from tunesmith.recipe.strategy import DeepSpeedStrategy, FsdpStrategy
from tunesmith.training.strategies.ranks import Ranks

FSDP = FsdpStrategy(type="fsdp")
IN_PARTS = FsdpStrategy(type="fsdp", checkpoints="parts")
CASES = (
    Case("lora", dropout=0.3),
    Case("full", dtype=torch.bfloat16),
    Case("lora", base="int8"),
    Case(preference="kto"),
    Case("full", head="tags"),
    Case("dora", strategy=FSDP),
    Case("full", strategy=FSDP),
    Case("full", strategy=IN_PARTS),
    Case("full", strategy=FsdpStrategy(type="fsdp", offload="cpu")),
)


def zero(stage: int) -> DeepSpeedStrategy:
    return DeepSpeedStrategy.model_validate({"type": "deepspeed", "zero": stage})


ZERO_CASES = (
    Case("lora", strategy=zero(1)),
    Case("full", strategy=zero(2)),
    Case("full", dtype=torch.bfloat16, strategy=zero(2)),
    Case("dora", strategy=zero(3)),
    Case("full", strategy=zero(3)),
)


def train_all(ranks: Ranks, cases: Sequence[Case], folder: Path) -> list[tuple[Trained, Trained]]:
    """What a rank found, and what it found after a stop behind the first step."""
    device = begin()
    if any(case.strategy.type == "deepspeed" for case in cases):
        from tests.fakes.pretend_accelerator import have_accelerator

        have_accelerator()
    found: list[tuple[Trained, Trained]] = []
    for number, case in enumerate(cases):
        own = folder / str(number)
        whole = train(ranks, case, device)
        halt(ranks, case, own, 1, device)
        found.append((whole, resume(ranks, case, own, device)))
    return found


def assert_like_one_on_the_cpu(cases: Sequence[Case], folder: Path) -> None:
    for number in range(len(cases)):
        (folder / str(number)).mkdir()
    on_devices: list[Any] = in_ranks(train_all, 2, cases, folder)
    for case, (first, again), (second, _) in zip(cases, *on_devices, strict=True):
        kept = "cpu" if getattr(case.strategy, "offload", None) else "pretend:0"
        assert first.places == {kept}, case
        expected, *_ = in_ranks(train, 2 if case.dropout else 1, case)
        assert_same(first, expected, rel=1e-4 if case.dtype == torch.float32 else 1e-2)
        assert_equal(first, second)
        assert again.losses == pytest.approx(first.losses[1:], rel=1e-6), case


@pytest.mark.long
def test_two_ranks_on_devices_make_the_steps_of_one_on_the_cpu(tmp_path: Path) -> None:
    assert_like_one_on_the_cpu(CASES, tmp_path)


@pytest.mark.long
def test_zero_on_devices_makes_the_steps_of_one_rank_on_the_cpu(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
    assert_like_one_on_the_cpu(ZERO_CASES, tmp_path)
