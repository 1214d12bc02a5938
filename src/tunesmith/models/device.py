"""Which device a process computes on, and the state of what is drawn at random there.

A batch, the layout of its rows and everything that is told of them stay in the host's memory; the
model, its gradients and the optimizer's state are on the device.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunesmith.core.errors import Fault, MachineError
from tunesmith.recipe.model import ModelPart

CPU = torch.device("cpu")


def choose_device(part: ModelPart, local_rank: int = 0) -> torch.device:
    """Return the device of a process; those of one machine share its GPUs in turn.

    It only answers: `compute_on` is what a process begins with.

    Raises:
        MachineError: the recipe wants a GPU and there is none that torch can use.
    """
    if part.device == "cpu":
        return CPU
    if not torch.cuda.is_available():
        if part.device == "cuda":
            raise MachineError(_no_gpu(), code="no_gpu")
        return CPU
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def compute_on(device: torch.device) -> None:
    """Make a GPU the one that exchanges and random numbers of this process are of."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # for `repeatable`; read when the first product is computed
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        settings: Any = torch.utils.deterministic
        settings.fill_uninitialized_memory = False


@contextmanager
def repeatable(device: torch.device) -> Generator[None]:
    """Within the block a GPU computes the same bits each time, where its kernels can.

    Attention's gradients, for one, are added up in any order else. Where a kernel cannot, torch
    warns. A CPU's always do.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def device_name(device: torch.device) -> str:
    """Return what a run says that it computed on."""
    own = _module_of(device)
    return device.type if own is None else own.get_device_name(device)


def gpu_id(device: torch.device) -> str | None:
    """Return what a GPU is known by, the same in every process; None of the host."""
    own = _module_of(device)
    return None if own is None else str(own.get_device_properties(device).uuid)


def free_bytes(device: torch.device) -> int | None:
    """Return what can still be taken of a device's own memory; None where it is the host's."""
    own = _module_of(device)
    return None if own is None else own.mem_get_info(device)[0]


def taken_bytes(device: torch.device) -> int | None:
    """Return what torch has of a device's own memory now; None where it is the host's.

    That is its tensors and what lies free between them. What the driver, kernels and NCCL have is
    not in it: no process can tell it from what other processes have.
    """
    own = _module_of(device)
    return None if own is None else own.memory_reserved(device)


@dataclass(frozen=True, kw_only=True)
class DevicePeak:
    """The most bytes of a device's own memory that torch had (`taken`), and that tensors had."""

    taken: int
    tensors: int


def peak_of(device: torch.device) -> DevicePeak | None:
    """Return the most that this process had of a device's own memory; None of the host's."""
    own = _module_of(device)
    if own is None:
        return None
    return DevicePeak(
        taken=own.max_memory_reserved(device), tensors=own.max_memory_allocated(device)
    )


def give_back_unused(device: torch.device) -> None:
    """Give a device what lies free between tensors, so that larger pieces can be made of it."""
    own = _module_of(device)
    if own is not None:
        own.empty_cache()


def _module_of(device: torch.device) -> Any:
    """The part of torch that has to do with a device whose memory is its own."""
    return None if device.type == "cpu" else torch.get_device_module(device)


@dataclass(frozen=True, eq=False)
class RandomState:
    """The state of the host's generator, and of the GPU's that this process uses."""

    host: Tensor
    gpu: Tensor | None = None


def random_state() -> RandomState:
    """Return the state as it is now."""
    uses_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return RandomState(torch.get_rng_state(), torch.cuda.get_rng_state() if uses_gpu else None)


def put_back_random_state(state: RandomState) -> None:
    """Draw from here on what was drawn from there on."""
    torch.set_rng_state(state.host)
    if state.gpu is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.gpu)


def _no_gpu() -> Fault:
    return Fault(
        found="no CUDA device that this torch can use",
        where="recipe: model.device",
        fix="set model.device: cpu, or install a torch that is built for CUDA "
        "(https://pytorch.org/get-started/locally)",
    )
