"""A device beside the CPU, in Python: what is on it has real values, and does not mix with others.

Of a GPU it has what a program gets wrong without one: every operation on a tensor of the device
with one that was left in the host's memory is refused, as CUDA refuses it. What it computes is
computed by the CPU, so it can be compared. `torch.tensor(values, device=...)` it does not know.

It stays for the life of the process, so its tests have one of their own (`in_own_process`).
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_map

NAME = "pretend"
# What may have a tensor on either side.
COPIES = {"_to_copy", "copy_", "_copy_from"}
_library: Any = None


class OnDevice(Tensor):
    """A tensor on the device, with its values."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> OnDevice:
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(NAME, 0),
        )
        made.values = values
        return made

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"OnDevice({self.values})"

    def tolist(self) -> Any:
        return self.values.tolist()

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["values"], None

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, Tensor], _context: None, _size: Any, _stride: Any
    ) -> OnDevice:
        return OnDevice(inner["values"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    name = func.overloadpacket.__name__

    def on_cpu(value: Any) -> Any:
        if isinstance(value, OnDevice):
            return value.values
        if isinstance(value, Tensor) and value.dim() and name not in COPIES:
            raise RuntimeError(f"{name}: tensors on {NAME}:0 and on {value.device}")
        return torch.device("cpu") if isinstance(value, torch.device) else value

    wanted = kwargs.get("device")
    computed = func(*tree_map(on_cpu, args), **tree_map(on_cpu, kwargs))
    if name == "copy_":
        return args[0]
    if name == "_copy_from":
        on_cpu(args[1]).copy_(on_cpu(args[0]))
        return args[1]
    if wanted is not None and torch.device(wanted).type == "cpu":
        return computed
    made = tree_map(lambda value: OnDevice(value) if isinstance(value, Tensor) else value, computed)
    return return_and_correct_aliasing(func, args, kwargs, made)


def begin() -> torch.device:
    """Have the device from now on; modules that are moved to it keep their parameters."""
    global _library
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    module: Any = torch.get_device_module(NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch.__future__.set_swap_module_params_on_conversion(True)
    _library = torch.library.Library("_", "IMPL")
    _library.fallback(_fallback, "PrivateUse1")
    own = torch.library.Library("aten", "IMPL")
    for name in ("arange", "arange.start", "arange.start_step"):
        own.impl(name, _arange, "PrivateUse1")
    _library.own = own
    _let_safetensors_look()
    return torch.device(NAME, 0)


def _let_safetensors_look() -> None:
    """It asks which tensors share memory; a tensor in Python has no address of its own."""
    import safetensors.torch as library
    from transformers import pytorch_utils

    for name in ("storage_ptr", "storage_size"):
        original = getattr(library, name)

        def look(tensor: Tensor, original: Any = original) -> int:
            return original(tensor.values if isinstance(tensor, OnDevice) else tensor)

        setattr(library, name, look)
        setattr(pytorch_utils, name, look)


def _fallback(func: Any, *args: Any, **kwargs: Any) -> Any:
    return _compute(func, args, kwargs)


def _arange(*args: Any, dtype: Any = None, **_: Any) -> Tensor:
    return OnDevice(torch.arange(*args, dtype=dtype))


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work(device, *arguments)` returns in a process that has the device."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_work, (work, arguments))


def _work(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    return work(begin(), *arguments)
