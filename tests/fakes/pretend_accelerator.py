"""DeepSpeed's view of the pretended device: that of a CPU, by another name."""

from __future__ import annotations

from typing import Any

import torch
from deepspeed.accelerator import set_accelerator
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from torch import Tensor

from tests.fakes.pretend_device import NAME


class PretendAccelerator(CPU_Accelerator):
    """What DeepSpeed asks a device for."""

    def __init__(self) -> None:
        super().__init__()
        self._name = NAME

    def device_name(self, device_index: Any = None) -> str:
        return NAME if device_index is None else f"{NAME}:{device_index}"

    def device(self, device_index: Any = None) -> torch.device:
        return torch.device(NAME, int(device_index or 0))

    def current_device(self) -> int:
        return 0

    def current_device_name(self) -> str:
        return f"{NAME}:0"

    def on_accelerator(self, tensor: Tensor) -> bool:
        return tensor.device.type == NAME


def have_accelerator() -> None:
    """Let DeepSpeed compute on the pretended device from now on."""
    set_accelerator(PretendAccelerator())
    _let_numbers_go()


def _let_numbers_go() -> None:
    """`torch.tensor` makes a tensor of the device by a way that is closed to Python."""
    original = torch.tensor

    def tensor(values: Any, *, device: Any = None, **settings: Any) -> Tensor:
        made = original(values, **settings)
        return made if device is None else made.to(device)

    torch.tensor = tensor
