"""Invariant: every method makes, on a device beside the CPU, the steps that it makes on the CPU.

Not tried are those whose tensors come to be by ways that are closed to a device in Python.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.fakes.architectures import save_decoder
from tests.fakes.pretend_device import in_own_process
from tests.invariants.test_method_table import METHODS, batches, recipe_for
from tunesmith.methods.select import apply_method
from tunesmith.models.facts import read_facts
from tunesmith.models.load import load_base
from tunesmith.models.originals import Originals
from tunesmith.training.loss import language_model
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.step import train_step

CLOSED = ("boft", "prefix-tuning")
CPU = torch.device("cpu")
RATE = 1e-2


def losses(device: torch.device, folder: Path, method: str) -> list[float]:
    recipe = recipe_for(method, METHODS[method][0], folder)
    torch.manual_seed(0)
    model = load_base(folder, recipe.model, device)
    original = Originals(folder).weight
    applied = apply_method(model, recipe.method, seed=0, original=original, steps=2)
    scored = language_model(model, read_facts(folder))
    factors = applied.rate_factors
    optimizer = make_optimizer(
        applied.trainable, recipe.training, learning_rate=RATE, rate_factors=factors
    )
    model.train()
    return [
        train_step(
            scored, applied, optimizer, batches(seed), learning_rate=RATE, max_gradient_norm=1.0
        ).loss
        for seed in (0, 1)
    ]


def losses_of_all(device: torch.device, folder: Path) -> dict[str, list[float]]:
    return {word: losses(device, folder, word) for word in METHODS if word not in CLOSED}


@pytest.mark.long
def test_every_method_makes_the_steps_of_the_cpu(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path / "llama", "llama")
    on_device, on_cpu = in_own_process(losses_of_all, folder), losses_of_all(CPU, folder)
    assert len(on_cpu) > 20
    for word, expected in on_cpu.items():
        assert on_device[word] == pytest.approx(expected, rel=1e-3), word
