"""What the ranks of a run tell each other: sums, lists and errors, beside the gradients.

A run of one process has one rank, which has nobody to ask: every answer is its own. Small things go
over gloo, on the host, whatever device the model is on. No exchange has a time-out of its own: who
waits may wait for an evaluation. A rank that is gone breaks the connection, which ends the others;
one that hangs is found by `watch.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tunesmith.core.rank_place import ALONE, RankPlace
from tunesmith.models.device import CPU
from tunesmith.training.strategies.watch import Watch

Value = TypeVar("Value")
NO_TIMEOUT = timedelta(days=365)
LEAVING_TIMEOUT = timedelta(seconds=10)
# Gradients are copied side by side into one piece of about this size, summed and copied back.
PIECE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Ranks:
    """This process among the run's ranks; all of them call the same methods in the same order."""

    place: RankPlace = ALONE
    watch: Watch | None = None

    @property
    def size(self) -> int:
        """How many there are."""
        return self.place.size

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes the run folder and evaluates."""
        return self.place.rank == 0

    def beat(self, doing: str) -> None:
        """Show that this rank goes on, and with what."""
        if self.watch is not None:
            self.watch.beat(doing)

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return the sum over all ranks of each value, in fp64."""
        if self.size == 1:
            return list(values)
        self.beat("waiting for the others")
        added = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(added)
        return added.tolist()

    def gathered(self, values_N: Tensor) -> Tensor:
        """Return the values of all ranks, one rank after the other; each may have another number.

        They come back in fp64.
        """
        if self.size == 1:
            return values_N
        counts = self.sums([len(values_N) * (rank == self.place.rank) for rank in range(self.size)])
        widest = int(max(counts))
        padded = torch.zeros(widest, dtype=torch.float64)
        padded[: len(values_N)] = values_N
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        return torch.cat([own[: int(count)] for own, count in zip(found, counts, strict=True)])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the sum over all ranks in the place of each gradient; none is nothing to add."""
        if self.size == 1:
            return
        self.beat("waiting for the others' gradients")
        for piece in _pieces(list(parameters)):
            flat = torch.cat([_gradient(one).reshape(-1) for one in piece])
            dist.all_reduce(flat)
            parts = flat.split([one.numel() for one in piece])
            for one, part in zip(piece, parts, strict=True):
                one.grad = part.view_as(one).clone()

    def raise_first(self, error: Exception | None) -> None:
        """Raise, on all ranks, the first rank's error; nothing happens where no rank has one."""
        if self.size == 1:
            if error is not None:
                raise error
            return
        (failed,) = self.sums([error is not None])
        if not failed:
            return
        errors: list[Exception | None] = [None] * self.size
        dist.all_gather_object(errors, error)
        raise next(one for one in errors if one is not None)

    def share(self, value: Value) -> Value:
        """Return what rank 0 gives."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def everybody(self, value: Value) -> list[Value]:
        """Return what each rank gives, in their order."""
        if self.size == 1:
            return [value]
        values: list[Value] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the values that rank 0 has."""
        if self.size == 1:
            return
        with torch.no_grad():
            for tensor in tensors:
                dist.broadcast(tensor.data, src=0)

    def patient(self) -> AbstractContextManager[None]:
        """Within the block a rank may take as long as it takes."""
        return nullcontext() if self.watch is None else self.watch.patient()

    def stepping(self) -> AbstractContextManager[None]:
        """Within the block a rank that does not go on is found."""
        return nullcontext() if self.watch is None else self.watch.stepping()

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.sums([0.0])

    @contextmanager
    def main_first(self) -> Generator[None]:
        """Within the block rank 0 is alone at first: what it makes, the others find."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


ONE_RANK = Ranks()


def join(place: RankPlace, watch: Watch | None = None, device: torch.device = CPU) -> Ranks:
    """Meet the other ranks, where there are any; what is on a GPU is exchanged over NCCL."""
    if place.size > 1:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=place.meeting,
            rank=place.rank,
            world_size=place.size,
            timeout=NO_TIMEOUT,
        )
    return Ranks(place, watch)


def leave(ranks: Ranks) -> None:
    """Let go of the connections, rank 0 before the others.

    A process that ends takes with it what the others have not received yet, so rank 0, which tells
    how the run ended, must be through with all exchanges before another rank ends.
    """
    if ranks.size > 1:
        word = torch.zeros(1)
        with suppress(RuntimeError):  # the other side is gone, which is what is waited for
            if ranks.is_main:
                for rank in range(1, ranks.size):
                    dist.send(word, dst=rank)
            else:
                work: Any = dist.irecv(word, src=0)
                work.wait(timeout=LEAVING_TIMEOUT)
        dist.destroy_process_group()
    if ranks.watch is not None:
        ranks.watch.stop()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _pieces(parameters: Sequence[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    piece: list[nn.Parameter] = []
    held = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if piece and held + size > PIECE_BYTES:
            yield piece
            piece, held = [], 0
        piece.append(parameter)
        held += size
    if piece:
        yield piece
