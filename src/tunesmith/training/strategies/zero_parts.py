"""What DeepSpeed's ZeRO 3 keeps in parts, whether they lie in memory or on a disk.

Every rank keeps as many values of each weight (`ds_tensor`; the last rank's may reach beyond the
weight's end). Of what is trained it steps copies in fp32: the parts of several weights in one flat
tensor, a group, with the optimizer's moments of it. With offload to a disk a group is read for the
time of its step, and a weight's part for the time in which it is sent (`swap_tensor` in the
engine). All of this is of the engine's inside, as of 0.19.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.training.spread import STATE_BUFFERS, STEPPED_VALUES, WEIGHT_BUFFERS
from tunesmith.training.strategies.disk_files import Builder
from tunesmith.training.strategies.ranks import Ranks

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, by torch's names
ON_DISK = "nvme"  # the engine's word for any disk
SMALLEST = 2**20  # bytes of a part that the engine moves to it


@dataclass(frozen=True)
class Piece:
    """This rank's part of a value that is trained, in fp32; of the value or of a moment."""

    parameter: nn.Parameter
    word: str
    part: Tensor


@contextmanager
def whole_on_main(parameters: Iterable[nn.Parameter], ranks: Ranks) -> Generator[None]:
    """Within the block rank 0 holds all weights, put together one after the other; others none."""
    cut = [one for one in parameters if _is_cut(one)]
    for parameter in cut:
        with _part_of(parameter) as part:
            whole = joined_on_main(part, parameter, ranks)
        if whole is not None:
            parameter.data = whole
    try:
        yield
    finally:
        for parameter in cut:
            parameter.data = torch.empty(0, dtype=parameter.dtype, device=parameter.device)


def joined_on_main(part: Tensor, parameter: Any, ranks: Ranks) -> Tensor | None:
    """Put the ranks' parts of a value together; None on all ranks but the first."""
    own = part.contiguous().view(torch.uint8)  # bytes: not every exchange knows every type
    if not ranks.is_main:
        dist.gather(own, dst=0)
        return None
    flat = own.new_empty(own.numel() * ranks.size)
    dist.gather(own, list(flat.chunk(ranks.size)), dst=0)
    return flat.view(part.dtype)[: parameter.ds_numel].view(parameter.ds_shape)


def cut_for(ranks: Ranks, value: Tensor, size: int) -> Tensor:
    """Return this rank's part, of so many values, of a whole one."""
    padded = F.pad(value.flatten(), (0, size * ranks.size - value.numel()))
    return padded.narrow(0, size * ranks.place.rank, size)


def pieces(zero: Any, words: Sequence[str], *, changes: bool = False) -> Iterator[Piece]:
    """Yield every part that this rank steps: the values ("") and their moments, by `words`.

    A piece is in memory until the next one is asked for.
    """
    for group, parameters in enumerate(zero.fp16_groups):
        with _in_memory(zero, group, changes=changes) as flat:
            for parameter in parameters:
                _, start, size = zero.grad_position[zero.get_param_id(parameter)]
                for word in ("", *words):
                    held = zero.optimizer.state[flat][word] if word else flat
                    yield Piece(parameter, word, held.detach().narrow(0, start, size))


def make_moments(zero: Any, step: Tensor) -> None:
    """Make the moments of every group, which are else made by the first step."""
    for group in range(len(zero.fp16_groups)):
        with _in_memory(zero, group, changes=True) as flat:
            moments = {word: torch.zeros_like(flat) for word in MOMENTS}
            zero.optimizer.state[flat] = {"step": step.to(flat.device, copy=True), **moments}


@contextmanager
def prepared_for_disk(library: Any, *, pins: bool) -> Generator[None]:
    """Within the block the engine, which is made in it, takes our files, of its weights' type.

    Where fp16 is not to be had, as on a CPU, it takes bf16 whatever it is told: in
    `Init._set_dtype`, as of 0.19.8, `dtype or half if ... else bfloat16` is not grouped as meant.
    """
    start = library.zero.Init
    set_dtype = start._set_dtype

    def set_own_dtype(self: Any, settings: Any, dtype: torch.dtype | None) -> None:
        set_dtype(self, settings, dtype)
        self.dtype = dtype or self.dtype

    swappers: list[Any] = [
        import_module(f"{library.__name__}.runtime.swap_tensor.partitioned_{word}_swapper")
        for word in ("param", "optimizer")
    ]
    builders = [swapper.AsyncIOBuilder for swapper in swappers]
    start._set_dtype = set_own_dtype
    for swapper in swappers:
        swapper.AsyncIOBuilder = partial(Builder, pins=pins)
    try:
        yield
    finally:
        start._set_dtype = set_dtype
        for swapper, builder in zip(swappers, builders, strict=True):
            swapper.AsyncIOBuilder = builder


def require_one_type(weights: Iterable[nn.Parameter], num_ranks: int) -> None:
    """See to it that all weights that go to a disk are of one type, as the engine's files are.

    Raises:
        RecipeError: they are not.
    """
    large = [one for one in weights if one.numel() * one.element_size() >= SMALLEST * num_ranks]
    types = {str(one.dtype).removeprefix("torch.") for one in large}
    if len(types) > 1:
        fault = Fault(
            found=f"weights in {' and '.join(sorted(types))}, and the engine's files are of one "
            "type",
            where="recipe: strategy.offload: disk",
            fix="set model.dtype: fp32, or use strategy.offload: cpu",
        )
        raise RecipeError(fault, code="strategy_unsupported")


def disk_buffers(weights: Iterable[nn.Parameter], num_ranks: int) -> Mapping[str, Any]:
    """Return the sizes of the engine's buffers between memory and a disk.

    A weight that is together keeps one of its few buffers, of the largest part, so none may stay
    beyond its module.
    """
    largest = max(-(-one.numel() // num_ranks) for one in weights)
    return {
        "offload_optimizer": {"buffer_count": STATE_BUFFERS},
        "offload_param": {
            "buffer_count": WEIGHT_BUFFERS,
            "buffer_size": largest,
            "max_in_cpu": 0,
        },
        "sub_group_size": STEPPED_VALUES,
        "stage3_max_live_parameters": 0,
        "stage3_max_reuse_distance": 0,
        "stage3_prefetch_bucket_size": 0,
    }


def _is_cut(parameter: Any) -> bool:
    """Small weights stay together, and so do those of one process."""
    return parameter.ds_status.name == "NOT_AVAILABLE"


@contextmanager
def _part_of(parameter: Any) -> Generator[Tensor]:
    """This rank's part of a weight, read from the disk where it lies there."""
    part = parameter.ds_tensor
    swapper = parameter.nvme_swapper if part.status.name == "NOT_AVAILABLE" else None
    if swapper is not None:
        swapper.swap_in([parameter], async_op=False)
    yield part.data.to(parameter.device)
    if swapper is not None:
        swapper.remove_partition_and_release_buffers([parameter])


@contextmanager
def _in_memory(zero: Any, group: int, *, changes: bool) -> Generator[Any]:
    """The flat values of a group, read from the disk where they lie there, and written back."""
    is_on_disk = zero._swappable_optimizer_subgroup(group)
    if is_on_disk:
        zero._optimizer_states_and_gradient_swap_in(group)
    yield zero.fp32_partitioned_groups_flat[group]
    if is_on_disk and changes:
        zero._optimizer_states_and_gradient_swap_out(group)
    elif is_on_disk:
        zero._release_swap_buffers(group)
