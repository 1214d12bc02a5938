"""Invariant: what is computed on a device beside the CPU is what the CPU computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.fakes.pretend_device import in_own_process
from tests.fakes.rank_training import CPU, Case, Trainer
from tunesmith.training.strategies.ranks import ONE_RANK

CASES = (
    Case("lora"),
    Case("dora"),
    Case("full"),
    Case("lora", dtype=torch.bfloat16),
    Case("lora", recompute=True),
    Case(preference="dpo"),
    Case(preference="kto"),
    Case(head="classes"),
    Case(head="tags"),
)


@dataclass(frozen=True)
class Found:
    """What training gave, and where its values were."""

    losses: list[float]
    values: dict[str, Any]
    places: set[str]


def train_all(device: torch.device, cases: Sequence[Case] = CASES) -> list[Found]:
    return [train(device, case) for case in cases]


def train(device: torch.device, case: Case) -> Found:
    trainer = Trainer(case, ONE_RANK, device)
    losses = [done.outcome.loss for done in trainer.train()]
    places = {str(one.device) for one in trainer.method.trainable.values()}
    return Found(losses, trainer.values(), places)


@pytest.fixture(scope="module", name="on_device")
def on_device_fixture() -> list[Found]:
    return in_own_process(train_all)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: str(CASES[number]))
def test_a_device_makes_the_steps_of_the_cpu(on_device: list[Found], number: int) -> None:
    case = CASES[number]
    found, expected = on_device[number], train(CPU, case)
    assert found.places == {"pretend:0"}
    is_exact = case.dtype == torch.float32
    assert found.losses == pytest.approx(expected.losses, rel=1e-5 if is_exact else 1e-2)
    assert found.values.keys() == expected.values.keys()
    for name, value in expected.values.items() if is_exact else ():
        assert found.values[name] == pytest.approx(value, abs=1e-3), name
