"""A device beside the CPU, in Python: what is on it has real values, and does not mix with others.

Of a GPU it has what a program gets wrong without one: every operation on a tensor of the device
with one that was left in the host's memory is refused, as CUDA refuses it. What it computes is
computed by the CPU, so it can be compared. `torch.tensor(values, device=...)` it does not know.

It stays for the life of the process, so its tests have one of their own (`in_own_process`).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_map

NAME = "pretend"
TAKEN, MOST_TAKEN, MOST_IN_TENSORS = 3 * 10**6, 5 * 10**6, 4 * 10**6
# What may have a tensor on either side.
COPIES = {"_to_copy", "copy_", "_copy_from"}
# What takes no number of the host's either, as other operations do.
STRICT = {"_fused_adamw_"}
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

    @property
    def data(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.detach()

    @data.setter
    def data(self, other: OnDevice) -> None:
        _set_data(self, other)
        self.values = other.values

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


_set_data: Any = Tensor.data.__set__  # pyright: ignore[reportAttributeAccessIssue]


def _compute(func: Any, args: Any, kwargs: Any) -> Any:
    name = func.overloadpacket.__name__

    def on_cpu(value: Any) -> Any:
        if isinstance(value, OnDevice):
            return value.values
        if isinstance(value, Tensor) and not _may_be_there(name, value):
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


def _may_be_there(name: str, of_host: Tensor) -> bool:
    return name in COPIES or (of_host.dim() == 0 and name not in STRICT)


def begin() -> torch.device:
    """Have the device from now on; modules that are moved to it keep their parameters."""
    global _library
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    module: Any = torch.get_device_module(NAME)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    for name in ("Stream", "Event", "stream", "current_stream"):
        setattr(module, name, getattr(torch.cpu, name))
    _tell_memory(module)
    _let_modules_move()
    _let_parameters_have_kinds()
    _library = torch.library.Library("_", "IMPL")
    _library.fallback(_fallback, "PrivateUse1")
    own = torch.library.Library("aten", "IMPL")
    for name in ("arange", "arange.start", "arange.start_step"):
        own.impl(name, _arange, "PrivateUse1")
    _library.own = own
    _let_safetensors_look()
    _let_storage_be()
    return torch.device(NAME, 0)


def _tell_memory(module: Any) -> None:
    """Of a device of 2 GB, of which the program has 3 MB and had 5 MB, 4 of them in tensors."""
    module.mem_get_info = lambda _: (2 * 10**9 - TAKEN, 2 * 10**9)
    module.memory_reserved = lambda _: TAKEN
    module.max_memory_reserved = lambda _: MOST_TAKEN
    module.max_memory_allocated = lambda _: MOST_IN_TENSORS
    module.empty_cache = lambda: None
    module.get_device_name = lambda _: "a pretended device"
    module.get_device_properties = lambda _: SimpleNamespace(uuid=f"device of {os.getpid()}")


def _let_modules_move() -> None:
    """A parameter that is moved stays the object that it is, with all but its values as it was."""
    original: Any = torch.nn.Module._apply
    modules: Any = torch.nn.modules.module
    modules.is_traceable_wrapper_subclass = lambda _: False  # which would be swapped always

    def apply(self: Any, function: Any, recurse: bool = True) -> Any:
        own = [one for one in self._parameters.values() if one is not None]
        known = [dict(one.__dict__) for one in own]
        swaps = any(not isinstance(one, OnDevice) for one in own)
        torch.__future__.set_swap_module_params_on_conversion(swaps)
        try:
            return original(self, function, recurse)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
            for one, before in zip(own, known, strict=True):
                one.__dict__.update({k: v for k, v in before.items() if k != "values"})

    torch.nn.Module._apply = apply


def _let_parameters_have_kinds() -> None:
    """A library's own class of parameters is none on the device; what it knows stays with it."""
    original: Any = Tensor._make_subclass

    def make(cls: Any, data: Tensor, requires_grad: bool = False, **kwargs: Any) -> Any:
        if not isinstance(data, OnDevice):
            return original(cls, data, requires_grad, **kwargs)
        return OnDevice(data.values).requires_grad_(requires_grad)

    owner: Any = Tensor
    owner._make_subclass = staticmethod(make)


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


def _let_storage_be() -> None:
    """`fully_shard` frees a tensor's storage; what it holds here is elsewhere."""
    from torch.distributed.fsdp._fully_shard import _fsdp_param

    module: Any = _fsdp_param
    module.alloc_storage = module.free_storage = lambda _: None


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
