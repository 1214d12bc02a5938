"""Fully sharded data parallel: torch's `fully_shard`, a unit for each decoder layer and one around.

Every rank keeps its part of each weight, gradient and moment. A layer's weights are put together
for its forward and its backward pass, and its gradient is added up over the ranks and cut into
parts after each backward pass. So all ranks must make as many passes (as in `deepspeed.py`), and
the loss is computed inside the forward pass of a module around the model (`around.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tunesmith.data.pack import MicroBatch
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.dora import DoraLinear
from tunesmith.models.linear import device_of
from tunesmith.models.tensor_parts import Rows
from tunesmith.recipe.strategy import FsdpStrategy
from tunesmith.training.checkpoint import TrainingState, copy_on_host
from tunesmith.training.loss import LanguageModel
from tunesmith.training.strategies.around import Around, hooks_off, leave_packed_way
from tunesmith.training.strategies.base import Share, shares_in_step
from tunesmith.training.strategies.division import seed_of
from tunesmith.training.strategies.ranks import Ranks


@dataclass(eq=False)
class FullyCut:
    """The strategy; `root` is there from `begin` on, and `trained` then holds parts of values."""

    ranks: Ranks
    part: FsdpStrategy
    random_seed: int
    can_repeat: bool = False
    root: Any = None
    trained: dict[str, nn.Parameter] = field(default_factory=dict[str, nn.Parameter])

    def begin(
        self,
        model: nn.Module,
        scored: LanguageModel,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Cut the model into parts, and let the optimizer step this rank's."""
        before = method.trainable
        self.ranks.copy_from_main(before.values())
        method.publish()
        leave_packed_way(model, scored)
        places = {id(parameter): path for path, parameter in model.named_parameters()}
        self.root = self._cut(model, scored.decoder)
        after = dict(model.named_parameters())
        part_of = {id(one): after[places[id(one)]] for one in before.values()}
        self.trained = {name: part_of[id(one)] for name, one in before.items()}
        before.update(self.trained)  # a method that holds them by name lets go of the whole ones
        for group in optimizer.param_groups:
            group["params"] = [part_of[id(one)] for one in group["params"]]

    def shares(
        self, groups: Sequence[MicroBatch], size_of: Callable[[MicroBatch], int]
    ) -> list[Share]:
        """Return this rank's micro-batches, and as many fillers as make the ranks equal."""
        return shares_in_step(groups, size_of, self.ranks.place)

    def seed(self, step: int, index: int) -> int | None:
        """Dropout is drawn anew for each micro-batch, whichever rank computes it."""
        return seed_of(self.random_seed, step, index)

    def compute(self, work: Callable[[], Tensor]) -> Tensor:
        """Compute a loss where the output matrix is at hand."""
        return self.root(work)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:  # noqa: ARG002 (each pass is exchanged)
        """Add the gradient; torch divides by the number of ranks, and it is to be a sum."""
        (loss * self.ranks.size).backward()

    def update(
        self,
        method: AppliedMethod,  # noqa: ARG002 (its values are in parts)
        optimizer: torch.optim.Optimizer,
        *,
        max_gradient_norm: float,
    ) -> float:
        """Cut the gradient by the norm over all ranks and step."""
        norm = float(_whole(nn.utils.clip_grad_norm_(self.trained.values(), max_gradient_norm)))
        if math.isfinite(norm):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self._measure()
        return norm

    def state(self, method: AppliedMethod, optimizer: torch.optim.Optimizer) -> TrainingState:  # noqa: ARG002 (its values are in parts)
        """Put values and moments together, one after the other, for rank 0; or keep the parts."""
        in_parts = self.part.checkpoints == "parts"
        rows: dict[str, Rows] = {}
        kept: dict[str, Tensor] = {}
        for key, value in self._held(optimizer):
            if in_parts and isinstance(value, DTensor):
                kept[key] = copy_on_host(value.to_local())
                rows[key] = _rows_of(value, self.ranks)
                continue
            whole = _whole(value)
            if self.ranks.is_main:
                kept[key] = copy_on_host(whole)
        trained = {name: kept.pop(name) for name in self.trained if name in kept}
        return TrainingState(
            trained=trained, tensors=kept, numbers={}, rows=rows if in_parts else None
        )

    def _held(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
        """Every value and what the optimizer keeps of it, by the names of a checkpoint."""
        for name, parameter in self.trained.items():
            yield name, parameter.detach()
            for word, value in optimizer.state[parameter].items():
                yield f"{name}/{word}", value

    def put_back(
        self,
        training: TrainingState,
        method: AppliedMethod,  # noqa: ARG002 (its values are in parts)
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Give each rank its part of what a checkpoint kept."""
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(_part(training.trained[name], parameter))
        for key, value in training.tensors.items():
            name, _, word = key.rpartition("/")
            parameter = self.trained[name]
            is_alike = value.shape == parameter.shape
            kept = _part(value, parameter) if is_alike else value
            optimizer.state[parameter][word] = kept.to(parameter.device)
        self._measure()

    @contextmanager
    def whole(self) -> Generator[None]:
        """Put all weights together on every rank, and keep the hooks away."""
        units = self._units()
        for unit in units:
            unit.unshard()
        try:
            with hooks_off(self.root):
                yield
        finally:
            for unit in units:
                unit.reshard()

    def _cut(self, model: nn.Module, decoder: Any) -> Any:
        device = device_of(model).type
        pins = device == "cuda"
        policy = CPUOffloadPolicy(pin_memory=pins) if self.part.offload else OffloadPolicy()
        settings: dict[str, Any] = {
            "mesh": init_device_mesh(device, (self.ranks.size,)),
            "offload_policy": policy,
        }
        for layer in decoder.layers:
            fully_shard(layer, **settings)
        return fully_shard(Around(model), **settings)

    def _units(self) -> list[Any]:
        return [module for module in self.root.modules() if hasattr(module, "unshard")]

    def _measure(self) -> None:
        """Measure rows anew with DoRA, a unit at a time; other methods have nothing to publish."""
        for unit in self._units():
            layers = [module for module in unit.modules() if isinstance(module, DoraLinear)]
            if unit is self.root or not layers:
                continue
            unit.unshard()
            for layer in layers:
                layer.measure()
            unit.reshard()


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _rows_of(value: DTensor, ranks: Ranks) -> Rows:
    """Return which rows are this rank's, as `fully_shard` cuts them: like torch.chunk."""
    count = len(value)
    start = min(count, ranks.place.rank * math.ceil(count / ranks.size))
    return Rows(start, tuple(value.shape))


def _part(value: Tensor, like: Any) -> Tensor:
    """Cut this rank's part as `like` is cut; every rank has the whole value."""
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
