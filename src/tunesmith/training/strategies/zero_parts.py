"""What DeepSpeed's ZeRO 3 keeps in parts, whether they lie in memory or on a disk.

Every rank keeps as many values of each weight (`ds_tensor`; the last rank's may reach beyond the
weight's end). Of what is trained it steps copies in fp32: the parts of several weights in one flat
tensor, a group, with the optimizer's moments of it. With offload to a disk a group is read for the
time of its step, and a weight's part for the time in which it is sent (`swap_tensor` in the
engine). All of this is of the engine's inside, as of 0.19.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.training.strategies.ranks import Ranks

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, by torch's names


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
