"""Every kind of optimizer: what it keeps, that it goes on as it was, that it learns as AdamW."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tunesmith.core.errors import MachineError
from tunesmith.data.collate import to_batch
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.select import apply_method
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.training import OptimizerName, TrainingPart
from tunesmith.training.checkpoint import Progress, load_newest, save_checkpoint
from tunesmith.training.optimizer import head_rate_factors, make_optimizer, require_optimizer
from tunesmith.training.step import train_step

KINDS: tuple[OptimizerName, ...] = ("adamw", "adamw-8bit", "adafactor")
CPU = torch.device("cpu")


def make(trainable: dict[str, nn.Parameter], kind: OptimizerName, rate: float = 1e-2) -> Any:
    part = TrainingPart(optimizer=kind, weight_decay=0.01)
    return make_optimizer(trainable, part, learning_rate=rate)


def some_parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    shapes = {"large": (96, 50), "small": (7, 9), "line": (40,)}  # 4,800 values: quantised
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def step(trainable: dict[str, nn.Parameter], optimizer: Any, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in trainable.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_from_a_checkpoint_is_bit_for_bit_going_on(
    kind: OptimizerName, tmp_path: Path
) -> None:
    trainable = some_parameters()
    optimizer = make(trainable, kind)
    for number in range(3):
        step(trainable, optimizer, number)
    save_checkpoint(tmp_path, Progress(step=3), trainable, optimizer)
    fresh = {name: nn.Parameter(torch.zeros_like(value)) for name, value in trainable.items()}
    other = make(fresh, kind)
    assert load_newest(tmp_path, fresh, other) == Progress(step=3)
    for number in range(3, 6):
        step(trainable, optimizer, number)
        step(fresh, other, number)
    assert all(fresh[name].equal(trainable[name]) for name in trainable)
    save_checkpoint(tmp_path / "again", Progress(step=6), fresh, other)


@pytest.mark.parametrize("kind", KINDS)
def test_two_runs_give_the_same_bits(kind: OptimizerName) -> None:
    ends: list[dict[str, nn.Parameter]] = []
    for _ in range(2):
        trainable = some_parameters()
        optimizer = make(trainable, kind)
        for number in range(4):
            step(trainable, optimizer, number)
        ends.append(trainable)
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("adamw", 8, 8.01), ("adamw-8bit", 2, 2.1), ("adafactor", 0, 0.05)],
)
def test_what_is_kept_a_value(kind: OptimizerName, least: float, most: float) -> None:
    trainable = {"matrix": nn.Parameter(torch.randn(512, 512))}
    optimizer = make(trainable, kind)
    step(trainable, optimizer, 0)
    state = optimizer.state[trainable["matrix"]]
    kept = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    assert least <= kept / 512**2 <= most


def losses(kind: OptimizerName, part: LoraMethod | FullMethod, rate: float) -> list[float]:
    model = make_llama(hidden_size=64, intermediate_size=128)
    method: AppliedMethod = apply_method(model, part, seed=0)
    optimizer = make(method.trainable, kind, rate)
    batches = [to_batch(make_examples([20, 30]), pad_id=0)]
    return [
        train_step(
            language_model(model), method, optimizer, batches,
            learning_rate=rate, max_gradient_norm=1.0,
        ).loss
        for _ in range(20)
    ]  # fmt: skip


@pytest.mark.parametrize("part", [LoraMethod(rank=64), FullMethod()], ids=["lora", "full"])
def test_8_bits_learn_as_32_do(part: LoraMethod | FullMethod) -> None:
    ours, exact = losses("adamw-8bit", part, 2e-3), losses("adamw", part, 2e-3)
    assert exact[-1] < 0.9 * exact[0]
    assert ours != exact  # some moments are quantised: the test would be void otherwise
    assert ours == pytest.approx(exact, rel=0.03)


def test_adafactor_moves_the_factor_that_starts_at_zero() -> None:
    falling = losses("adafactor", LoraMethod(rank=8), 1e-2)
    assert falling[-1] < 0.9 * falling[0]


def test_a_paged_optimizer_is_refused_without_a_cuda_device_and_told_what_is_near() -> None:
    with pytest.raises(MachineError, match="adamw-8bit") as caught:
        require_optimizer("paged-adamw-8bit", CPU)
    assert "CUDA" in str(caught.value)
    for kind in KINDS:
        require_optimizer(kind, CPU)


def test_without_bitsandbytes_it_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.training.optimizer.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="bitsandbytes is not installed"):
        require_optimizer("adamw-8bit", CPU)
    require_optimizer("adamw", CPU)


@pytest.mark.parametrize("kind", ["adamw", "adamw-8bit"])
def test_lora_plus_moves_b_by_its_factor(kind: OptimizerName) -> None:
    moved: list[tuple[float, float]] = []
    for factor in (1.0, 16.0):
        model = make_llama()
        method = apply_method(model, LoraMethod(rank=4, b_rate_factor=factor), seed=0)
        optimizer = make_optimizer(
            method.trainable,
            TrainingPart(optimizer=kind),
            learning_rate=1e-3,
            rate_factors=method.rate_factors,
        )
        before = {name: value.detach().clone() for name, value in method.trainable.items()}
        train_step(
            language_model(model),
            method,
            optimizer,
            [to_batch(make_examples([12, 9]), pad_id=0)],
            learning_rate=1e-3,
            max_gradient_norm=1.0,
        )
        sums = dict.fromkeys("AB", 0.0)
        for name, value in method.trainable.items():
            sums[name.split(".lora_")[1][0]] += float((value.detach() - before[name]).abs().mean())
        moved.append((sums["A"], sums["B"]))
    (plain_a, plain_b), (a, b) = moved
    assert a == plain_a == 0  # B is zero in the first step, so A has no gradient
    assert b == pytest.approx(16 * plain_b, rel=1e-3)


def test_a_heads_values_and_no_others_move_at_its_rate() -> None:
    trainable = {
        "model.norm.weight": torch.nn.Parameter(torch.ones(4)),
        "score.weight": torch.nn.Parameter(torch.ones(2, 4)),
        "scores.weight": torch.nn.Parameter(torch.ones(2, 4)),
    }
    part = TrainingPart(learning_rate=1e-4, head_learning_rate=1e-3)
    factors = head_rate_factors(trainable, ["score"], part)
    assert factors == {"score.weight": pytest.approx(10.0)}
    optimizer = make_optimizer(trainable, part, learning_rate=1e-4, rate_factors=factors)
    rates = {
        name: group["rate_factor"]
        for group in optimizer.param_groups
        for name, value in trainable.items()
        if any(value is one for one in group["params"])
    }
    assert rates == {"model.norm.weight": 1.0, "scores.weight": 1.0, **factors}
    assert not head_rate_factors(trainable, [], part)
