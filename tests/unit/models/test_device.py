"""Which device a process computes on."""

from __future__ import annotations

import pytest
import torch

from tunesmith.core.errors import MachineError
from tunesmith.models.device import CPU, choose_device, compute_on, repeatable
from tunesmith.models.load import choose_dtype
from tunesmith.recipe.model import ModelPart
from tunesmith.training.strategies import start
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks


def part(device: str) -> ModelPart:
    return ModelPart.model_validate({"source": "m", "device": device})


@pytest.fixture(name="taken")
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Have two GPUs, and tell which one was made the process's."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "as it was")
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    return taken


def test_processes_take_the_gpus_in_turn_and_asking_for_a_dtype_takes_none(
    taken: list[torch.device],
) -> None:
    found = [choose_device(part("auto"), rank) for rank in range(3)]
    assert [str(device) for device in found] == ["cuda:0", "cuda:1", "cuda:0"]
    assert choose_device(part("cpu"), 1) == CPU
    assert choose_dtype(part("cuda"), found[1]) == "bf16"
    assert taken == []
    compute_on(found[1])
    compute_on(CPU)
    assert taken == [found[1]]


def test_two_processes_on_one_gpu_are_refused_with_the_number_of_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus = ["GPU-a", "GPU-b", "GPU-a"]
    monkeypatch.setattr(start, "gpu_id", lambda _: gpus[0])
    monkeypatch.setattr(Ranks, "everybody", lambda *_: gpus)
    with pytest.raises(MachineError, match="processes 0 and 2 are on one GPU") as caught:
        start.require_own_gpus(ONE_RANK, torch.device("cuda", 0))
    assert "here 2" in caught.value.faults[0].fix
    gpus[2] = "GPU-c"
    start.require_own_gpus(ONE_RANK, torch.device("cuda", 0))


def test_a_gpu_that_is_not_there_is_refused_and_not_missed_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(part("auto")) == CPU
    with pytest.raises(MachineError, match="no CUDA device") as caught:
        choose_device(part("cuda"))
    assert caught.value.code == "no_gpu"


def test_gradients_of_a_gpu_are_added_up_in_the_same_order_each_time() -> None:
    is_on = torch.are_deterministic_algorithms_enabled
    with repeatable(torch.device("cuda")):
        assert is_on()
        assert torch.is_deterministic_algorithms_warn_only_enabled()  # it ends no run
    assert not is_on()
    with repeatable(CPU):
        assert not is_on()
    with pytest.raises(ValueError, match="of the pass"), repeatable(torch.device("cuda")):
        raise ValueError("of the pass")
    assert not is_on()
