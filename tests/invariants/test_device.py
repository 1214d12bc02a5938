"""Invariant: what is computed on a device beside the CPU is what the CPU computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.fakes.pretend_device import in_own_process
from tests.fakes.rank_training import Case, Trainer
from tunesmith.training.strategies.ranks import ONE_RANK

CASES = [
    Case("lora"),
    Case("dora"),
    Case("full"),
    Case("lora", dtype=torch.bfloat16),
    Case("lora", recompute=True),
    Case(preference="dpo"),
    Case(preference="kto"),
    Case(head="classes"),
    Case(head="span"),
]


def on(device: Any, case: Case) -> tuple[list[float], dict[str, Any], set[str]]:
    """Train on a device; the losses, the values, and where they are."""
    trainer = Trainer(case, ONE_RANK, device)
    losses = [done.outcome.loss for done in trainer.train()]
    where = {str(one.device) for one in trainer.method.trainable.values()}
    return losses, trainer.values(), where


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_device_makes_the_steps_of_the_cpu(case: Case) -> None:
    losses, values, where = in_own_process(on, case)
    assert where == {"pretend:0"}
    expected, theirs, _ = on(torch.device("cpu"), case)
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, value in theirs.items():
        assert values[name] == pytest.approx(value, abs=1e-5), name
