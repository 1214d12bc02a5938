from __future__ import annotations

from typing import Any

import pytest

from tunesmith.core import extras
from tunesmith.core.errors import MachineError, RecipeError
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.processes import num_processes
from tunesmith.recipe.strategy import (
    DdpStrategy,
    DeepSpeedStrategy,
    SingleStrategy,
    require_engine,
)


def load(**parts: Any) -> Any:
    recipe = {"model": "tiny", "task": "chat", "data": {"train": "sample:tiny"}, **parts}
    return load_recipe(recipe).recipe


def test_one_process_is_the_default() -> None:
    assert load().strategy == SingleStrategy()
    assert num_processes(load()) == 1


def test_a_word_stands_for_a_strategy() -> None:
    assert load(strategy="ddp").strategy == DdpStrategy()


@pytest.mark.parametrize(("gpus", "processes"), [("", 2), ("0", 1), ("0,1,2", 3)])
def test_auto_is_a_process_for_each_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: str, processes: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    assert num_processes(load(strategy="ddp")) == processes
    assert num_processes(load(strategy={"type": "ddp", "processes": 5})) == 5
    on_cpu = {"source": "tiny", "device": "cpu"}
    assert num_processes(load(strategy="ddp", model=on_cpu)) == 2


@pytest.mark.parametrize(
    ("parts", "found", "fix"),
    [
        ({"training": {"optimizer": "adafactor"}}, "equal parts", "optimizer: adamw"),
        ({"method": "adalora"}, "adds a penalty", "strategy: ddp"),
        ({"method": "qlora", "zero": 3}, "stored in uint8", "strategy.zero: 2"),
        ({"method": "ia3", "zero": 3}, "does not see", "method: lora"),
        (
            {"task": {"type": "classification", "head": True}, "zero": 3},
            "a head is computed beside",
            "strategy.zero: 2",
        ),
        (
            {"task": {"type": "preference", "loss": "kto"}, "zero": 3},
            "kto's reference point",
            "strategy.zero: 2",
        ),
    ],
)
def test_what_zero_cannot_do_is_refused_with_the_reason(
    parts: dict[str, Any], found: str, fix: str
) -> None:
    stage = parts.pop("zero", 1)
    with pytest.raises(RecipeError) as error:
        load(strategy={"type": "deepspeed", "zero": stage}, **parts)
    (fault,) = error.value.faults
    assert found in fault.found
    assert fix in fault.fix


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"method": "qlora"}, "adapters in fp32"),
        ({"method": "ia3"}, "does not see"),
        ({"task": {"type": "ner", "head": True}}, "a head is computed beside"),
        ({"training": {"optimizer": "adamw-8bit"}}, "equal parts"),
    ],
)
def test_what_fsdp_cannot_do_is_refused_with_the_reason(parts: dict[str, Any], found: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(strategy="fsdp", **parts)
    (fault,) = error.value.faults
    assert found in fault.found
    assert "FSDP" in fault.found


def test_a_key_of_another_strategy_is_said_to_be_so() -> None:
    with pytest.raises(RecipeError) as error:
        load(strategy={"type": "ddp", "zero": 2})
    (fault,) = error.value.faults
    assert "strategy.zero does not belong to this strategy" in fault.found
    assert "strategy.type: deepspeed" in fault.fix


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match="deepspeed is not installed"):
        require_engine(DeepSpeedStrategy(type="deepspeed"))
    require_engine(DdpStrategy())
