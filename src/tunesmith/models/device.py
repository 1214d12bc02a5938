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


def free_bytes(device: torch.device) -> int | None:
    """Return what can still be taken of a device's own memory; None where it is the host's."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


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
