"""One table over methods, bases and architectures: what holds for each that can be combined.

By default every method meets every architecture, and every base that it can stand on, in turn;
TUNESMITH_WHOLE_TABLE=1 runs each of the three-way combinations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.fakes.architectures import DECODERS, VOCABULARY, save_decoder
from tests.fakes.tiny_llama import make_examples
from tunesmith.data.collate import Batch, to_batch
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.base import AppliedMethod, count_trainable
from tunesmith.methods.lora_method import AppliedLora, adapters_off
from tunesmith.methods.select import apply_method
from tunesmith.models.facts import read_facts
from tunesmith.models.linear import in_features, is_linear, out_features
from tunesmith.models.load import load_base, load_model
from tunesmith.models.originals import Originals
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.checkpoint import Progress, load_newest, save_checkpoint
from tunesmith.training.loss import language_model
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.step import train_step

RANK = 4
BASES: dict[str, dict[str, Any]] = {
    "fp32": {"dtype": "fp32"},
    "bf16": {"dtype": "bf16"},
    "int8": {"dtype": "fp32", "base": "int8"},
    "nf4": {"dtype": "bf16", "base": "nf4"},
    "fp4": {"dtype": "fp32", "base": "fp4"},
}
WHOLE, ROUNDED = ("fp32", "bf16"), ("int8", "nf4", "fp4")
METHODS: dict[str, tuple[str, ...]] = {
    "lora": (*WHOLE, *ROUNDED),
    "rslora": (*WHOLE, *ROUNDED),
    "dora": (*WHOLE, *ROUNDED),
    "lora+": (*WHOLE, *ROUNDED),
    "pissa": WHOLE,
    "loftq": ROUNDED,
    "whole": (*WHOLE, *ROUNDED),
    "full": WHOLE,
}
# A start at what quantising took changes the quantised model, and is meant to.
CHANGES_AT_THE_START = ("loftq",)
TOKENS = torch.arange(24).view(2, 12) * 7 % VOCABULARY
# How far the same function may be computed apart: bf16 rounds what goes from layer to layer.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.0, "int8": 1e-5, "nf4": 0.0, "fp4": 1e-5}


def cells() -> Iterator[tuple[str, str, str]]:
    whole = os.environ.get("TUNESMITH_WHOLE_TABLE") == "1"
    for row, architecture in enumerate(DECODERS):
        for column, (method, bases) in enumerate(METHODS.items()):
            for base in bases if whole else [bases[(row + column) % len(bases)]]:
                yield method, base, architecture


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("table")

    def make_once(architecture: str) -> Path:
        made = folder / architecture
        return made if made.is_dir() else save_decoder(made, architecture)

    return make_once


class Cell:
    """A model of one architecture on one base, with one method applied."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.part: TrainingPart = recipe.training
        self.model: Any = load_base(folder, recipe.model)
        self.at_first = logits_of(self.model)
        self.method: AppliedMethod = apply_method(
            self.model, recipe.method, seed=0, original=Originals(folder).weight
        )
        self.language_model = language_model(self.model, read_facts(folder))
        self.optimizer = make_optimizer(
            self.method.trainable,
            recipe.training,
            learning_rate=1e-2,
            rate_factors=self.method.rate_factors,
        )

    def step(self, batches: list[Batch]) -> float:
        self.model.train()
        outcome = train_step(
            self.language_model,
            self.method,
            self.optimizer,
            batches,
            learning_rate=1e-2,
            max_gradient_norm=1.0,
        )
        self.model.eval()
        return outcome.loss


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits.float()


def batches(seed: int) -> list[Batch]:
    return [to_batch(make_examples([20, 13, 17], seed=seed), pad_id=0)]


def recipe_for(method: str, base: str, folder: Path) -> Recipe:
    match method:
        case "full":
            values: dict[str, Any] = {"type": method}
        case "whole":  # adapters, and what turns tokens into numbers and back
            embedding = "wte" if (folder.name == "gpt2") else "embed_tokens"
            values = {"type": "lora", "rank": RANK, "modules_to_save": [embedding, "lm_head"]}
        case _:
            values = {"type": method, "rank": RANK}
    return load_recipe(
        {
            "model": {"source": str(folder), **BASES[base]},
            "task": "chat",
            "data": {"train": "sample:support"},
            "method": values,
        }
    ).recipe


def untrained(model: nn.Module, method: AppliedMethod) -> dict[str, Tensor]:
    """Everything that must stay as it is, by value."""
    trained = {id(value) for value in method.trainable.values()}
    return {
        name: value.detach().clone()
        for name, value in model.named_parameters()
        if id(value) not in trained and not value.requires_grad
    }


def closed_form(model: nn.Module, method: str) -> int:
    if method == "full":
        return sum(value.numel() for value in model.parameters())
    head = model.get_output_embeddings()  # type: ignore[operator]
    linears = [m for m in model.modules() if is_linear(m) and m is not head]
    widths = [(in_features(m), out_features(m)) for m in linears]
    count = sum(RANK * (inner + outer) for inner, outer in widths)
    if method == "whole":  # the two are one where they are tied
        owner: Any = model
        matrices = {id(m.weight): m.weight for m in (head, owner.get_input_embeddings())}
        return count + sum(matrix.numel() for matrix in matrices.values())
    return count + (sum(outer for _, outer in widths) if method == "dora" else 0)


def assert_near(found: Tensor, expected: Tensor, base: str) -> None:
    torch.testing.assert_close(found, expected, atol=TOLERANCE[base], rtol=TOLERANCE[base])


@pytest.mark.parametrize(("method", "base", "architecture"), list(cells()))
def test_a_method_on_a_base_of_an_architecture(
    folder_of: Callable[[str], Path], tmp_path: Path, method: str, base: str, architecture: str
) -> None:
    folder = folder_of(architecture)
    recipe = recipe_for(method, base, folder)
    cell = Cell(recipe, folder)
    is_adapter = isinstance(cell.method, AppliedLora)

    # step 0 is the identity, and what is trained is counted by its closed form
    started = logits_of(cell.model)
    if method in CHANGES_AT_THE_START:
        assert not started.equal(cell.at_first)
    else:
        assert_near(started, cell.at_first, base)
    plain = load_model(folder, recipe.model.dtype)  # type: ignore[arg-type]
    assert count_trainable(cell.method) == closed_form(plain, method)

    # two steps change what may change and nothing else; the second again from a checkpoint
    still = untrained(cell.model, cell.method)
    before = {name: value.detach().clone() for name, value in cell.method.trainable.items()}
    cell.step(batches(1))
    checkpoints = tmp_path / "checkpoints"
    save_checkpoint(checkpoints, Progress(step=1), cell.method.trainable, cell.optimizer)
    loss = cell.step(batches(2))
    after = cell.method.trainable
    unmoved = [name for name, value in before.items() if value.equal(after[name])]
    assert unmoved == []
    assert all(
        value.equal(still[name]) for name, value in untrained(cell.model, cell.method).items()
    )

    again = Cell(recipe, folder)
    assert load_newest(checkpoints, again.method.trainable, again.optimizer)
    again.method.publish()
    assert again.step(batches(2)) == loss
    assert all(value.equal(after[name]) for name, value in again.method.trainable.items())

    # saved and loaded computes the same; switched off it is the base
    trained = logits_of(cell.model)
    assert not trained.equal(cell.at_first)
    cell.method.save(tmp_path / "saved", base=str(folder))
    if not is_adapter:
        assert_near(logits_of(load_model(tmp_path / "saved", recipe.model.dtype)), trained, base)
        return
    loaded = load_base(folder, recipe.model)
    load_adapter(loaded, tmp_path / "saved")
    assert_near(logits_of(loaded), trained, base)
    with adapters_off(cell.model):
        assert logits_of(cell.model).equal(cell.at_first)
