"""Invariant: what is computed on a device beside the CPU is what the CPU computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.fakes.pretend_device import in_own_process
from tests.fakes.rank_training import CPU, Case, Trainer
from tests.fakes.tiny_llama import make_llama
from tunesmith.methods.select import apply_method
from tunesmith.models.quantise import quantise_model
from tunesmith.recipe.method import LoraMethod
from tunesmith.training.strategies.ranks import ONE_RANK

CASES = (
    Case("lora"),
    Case("dora"),
    Case("full"),
    Case("lora", dtype=torch.bfloat16),
    Case("lora", recompute=True),
    Case("lora", dropout=0.3),
    Case("lora", base="int8"),
    Case("dora", base="nf4"),
    Case("adalora"),
    Case("ia3", base="nf4"),
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


def work(device: torch.device) -> tuple[list[Found], dict[str, Any]]:
    return [train(device, case) for case in CASES], starts(device)


def starts(device: torch.device) -> dict[str, Any]:
    """What B A is at the start where the weights say it, by method."""
    found: dict[str, Any] = {}
    for init in ("pissa", "loftq"):
        model = make_llama(hidden_size=64, intermediate_size=64)
        kept = {name: value.clone() for name, value in model.named_parameters()}
        if init == "loftq":
            quantise_model(model, [model.lm_head], "int8", double_quant=True, dtype=torch.float32)
        model.to(device)
        part = LoraMethod(rank=4, init=init)  # pyright: ignore[reportArgumentType]
        method = apply_method(model, part, seed=0, original=lambda path: kept[f"{path}.weight"])  # noqa: B023 (called at once)
        a, b = (value.detach().cpu() for value in list(method.trainable.values())[:2])
        found[init] = (b @ a).numpy()
    return found


def train(device: torch.device, case: Case) -> Found:
    trainer = Trainer(case, ONE_RANK, device)
    losses = [done.outcome.loss for done in trainer.train()]
    places = {str(one.device) for one in trainer.method.trainable.values()}
    return Found(losses, trainer.values(), places)


@pytest.fixture(scope="module", name="on_device")
def on_device_fixture() -> tuple[list[Found], dict[str, Any]]:
    return in_own_process(work)


def test_a_start_that_weights_say_is_the_cpus(
    on_device: tuple[list[Found], dict[str, Any]],
) -> None:
    for init, product in starts(CPU).items():
        assert on_device[1][init] == pytest.approx(product, abs=1e-5), init


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: str(CASES[number]))
def test_a_device_makes_the_steps_of_the_cpu(
    on_device: tuple[list[Found], dict[str, Any]], number: int
) -> None:
    case = CASES[number]
    found, expected = on_device[0][number], train(CPU, case)
    assert found.places == {"pretend:0"}
    is_exact = case.dtype == torch.float32
    assert found.losses == pytest.approx(expected.losses, rel=1e-5 if is_exact else 1e-2)
    assert found.values.keys() == expected.values.keys()
    for name, value in expected.values.items() if is_exact else ():
        assert found.values[name] == pytest.approx(value, abs=1e-3), name
