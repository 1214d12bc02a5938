"""DeepSpeed's ZeRO (Rajbhandari et al., 2020), and the only place that imports DeepSpeed.

    stage 1   each rank keeps the optimizer's state of its part of the trained values
    stage 2   and only its part of the gradient
    stage 3   and only its part of all weights, frozen ones too: a layer's are put together for the
              time of its forward and of its backward pass

Stages 1 and 2 have to do with what is trained alone, so the engine is given that and nothing of the
model. Under stage 3 it watches the model's modules, and the loss is computed inside the forward of
a module around it all (`around.py`), by which the output matrix is at hand.

The engine's collectives are part of every pass, so all ranks must make as many: those with fewer
micro-batches compute one of them again, times zero.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.data.pack import MicroBatch
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.dora import DoraLinear
from tunesmith.methods.lora import LoraLinear
from tunesmith.methods.lora_method import AppliedLora
from tunesmith.recipe.deepspeed_config import merged
from tunesmith.recipe.strategy import DeepSpeedStrategy
from tunesmith.training.checkpoint import TrainingState, by_parameter, copy_on_host
from tunesmith.training.loss import LanguageModel
from tunesmith.training.spread import BUCKET_VALUES, LIVE_VALUES
from tunesmith.training.strategies.around import Around, Held, hooks_off, leave_packed_way
from tunesmith.training.strategies.base import Share, shares_in_step
from tunesmith.training.strategies.division import seed_of
from tunesmith.training.strategies.ranks import Ranks
from tunesmith.training.strategies.zero_parts import (
    MOMENTS,
    ON_DISK,
    cut_for,
    disk_buffers,
    joined_on_main,
    make_moments,
    pieces,
    prepared_for_disk,
    require_one_type,
    whole_on_main,
)

REPLACED = r"`torch\.distributed\.\w+` is deprecated"


@dataclass(eq=False)
class Zero:
    """The strategy; `engine` is there from `begin` on."""

    ranks: Ranks
    part: DeepSpeedStrategy
    random_seed: int
    max_gradient_norm: float
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further ones, of the engine's own."""
    offload_folder: Path | None = None
    """For what lies on a disk."""
    engine: Any = None
    can_repeat: bool = False
    _library: Any = None
    _trained: dict[str, nn.Parameter] = field(default_factory=dict[str, nn.Parameter])
    _parameters: tuple[nn.Parameter, ...] = ()

    @property
    def is_sharded(self) -> bool:
        """Whether no rank holds the model."""
        return self.part.zero == 3

    def begin(
        self,
        model: nn.Module,
        scored: LanguageModel,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Give values and optimizer to the engine."""
        self._trained = method.trainable
        self.ranks.copy_from_main(self._trained.values())
        method.publish()
        device = next(iter(self._trained.values())).device
        library = self._library = _import_library(self.ranks, device)
        root: nn.Module = Held(self._trained.values())
        if self.is_sharded:
            leave_packed_way(model, scored)
            self._parameters = tuple(model.parameters())
            root = Around(model)
            adapters = {type(m) for m in model.modules() if isinstance(m, LoraLinear | DoraLinear)}
            if adapters:  # their matrices are their bases', which they use by themselves
                library.utils.set_z3_leaf_modules(root, list(adapters))
        on_disk = nullcontext()
        if self.offload_folder is not None:
            require_one_type(self._parameters, self.ranks.size)
            on_disk = prepared_for_disk(library, pins=device.type == "cuda")
        with _quiet(), on_disk:
            self.engine, *_ = library.initialize(
                model=root, optimizer=optimizer, config=self.config(device)
            )
        if self.is_sharded:
            for parameter in scored.head.parameters():
                library.zero.register_external_parameter(root, parameter)

    def config(self, device: torch.device) -> dict[str, Any]:
        """The engine's settings."""
        zero: dict[str, Any] = {"stage": self.part.zero}
        if device.type != "cuda":
            zero["overlap_comm"] = False  # its streams are a GPU's
        if self.part.offload is not None:
            zero["offload_optimizer"] = self._offload(device)
            if self.is_sharded:
                zero["offload_param"] = self._offload(device)
        is_half = any(one.dtype == torch.bfloat16 for one in self._trained.values())
        asked: dict[str, Any] = {
            "bf16": {"enabled": is_half},
            "data_types": {"grad_accum_dtype": "fp32"},
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": self.max_gradient_norm,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": None,
        }
        return merged(merged(self._buffers(), self.settings), asked)

    def _buffers(self) -> dict[str, Any]:
        """The sizes of the engine's buffers, where its own defaults are those of large machines."""
        trained = sum(value.numel() for value in self._trained.values())
        buffers: dict[str, Any] = {"reduce_bucket_size": min(trained, BUCKET_VALUES)}
        if self.is_sharded:
            buffers["stage3_max_live_parameters"] = LIVE_VALUES
            buffers["stage3_max_reuse_distance"] = LIVE_VALUES
        if self.offload_folder is not None:
            buffers |= disk_buffers(self._parameters, self.ranks.size)
        return {"zero_optimization": buffers}

    def _offload(self, device: torch.device) -> dict[str, Any]:
        """Where the engine keeps what it spreads."""
        if self.offload_folder is None:
            return {"device": self.part.offload}
        pins = device.type == "cuda"
        return {"device": ON_DISK, "nvme_path": str(self.offload_folder), "pin_memory": pins}

    def shares(
        self, groups: Sequence[MicroBatch], size_of: Callable[[MicroBatch], int]
    ) -> list[Share]:
        """Return this rank's micro-batches, and as many fillers as make the ranks equal."""
        return shares_in_step(groups, size_of, self.ranks.place)

    def seed(self, step: int, index: int) -> int | None:
        """Dropout is drawn anew for each micro-batch, whichever rank computes it."""
        return seed_of(self.random_seed, step, index)

    def compute(self, work: Callable[[], Tensor]) -> Tensor:
        """Compute a loss, under stage 3 inside the engine's forward pass."""
        return self.engine(work) if self.is_sharded else work()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Add the gradient; the engine divides by the number of ranks, and it is to be a sum."""
        self.engine.set_gradient_accumulation_boundary(is_last)
        self.engine.backward(loss * self.ranks.size, scale_wrt_gas=False)
        if not is_last:
            self.engine.step()

    def update(
        self,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002 (the engine has it)
        *,
        max_gradient_norm: float,  # noqa: ARG002 (the engine has it)
    ) -> float:
        """Make the engine's step. A norm that is not finite is told only after it."""
        self.engine.step()
        self._publish(method)
        return float(self.engine.get_global_grad_norm())

    def state(self, method: AppliedMethod, optimizer: torch.optim.Optimizer) -> TrainingState:  # noqa: ARG002 (the engine has both)
        """Put values and moments together, one after the other; rank 0 keeps them."""
        words = MOMENTS if self._has_stepped() else ()
        trained: dict[str, Tensor] = {}
        tensors: dict[str, Tensor] = {}
        for name, word, whole in self._joined(words):
            if whole is None:  # another rank has it
                continue
            kept, key = (tensors, f"{name}/{word}") if word else (trained, name)
            kept[key] = copy_on_host(whole)
            if word:
                tensors[f"{name}/step"] = self._step_count().clone()
        return TrainingState(trained=trained, tensors=tensors, numbers={})

    def _joined(self, words: Sequence[str]) -> Iterator[tuple[str, str, Tensor | None]]:
        """Every value that is trained, whole in fp32, and its moments; under stage 3 on rank 0."""
        if self.is_sharded:
            names = {id(parameter): name for name, parameter in self._trained.items()}
            for piece in pieces(self.engine.optimizer, words):
                whole = joined_on_main(piece.part, piece.parameter, self.ranks)
                yield names[id(piece.parameter)], piece.word, whole
            return
        utilities = self._library.utils
        if words:
            self._link_moments()
        for name, parameter in self._trained.items():
            yield name, "", utilities.safe_get_full_fp32_param(parameter)
            for word in words:
                yield name, word, utilities.safe_get_full_optimizer_state(parameter, word)

    def put_back(
        self,
        training: TrainingState,
        method: AppliedMethod,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002 (the engine has it)
    ) -> None:
        """Give each rank its part of what a checkpoint kept."""
        state = by_parameter(training)
        if state:
            step = next(iter(state.values()))["step"]
            self._make_moments(step)
        for name, parameter in self._trained.items():
            value = training.trained[name]
            with self._gathered([parameter], changes=True):
                parameter.data.copy_(value)
            if not self.is_sharded:
                parts: Any = parameter
                parts.set_full_hp_param(value, None)
                for word in MOMENTS if name in state else ():
                    parts.set_full_hp_param(state[name][word], word)
        if self.is_sharded:
            names = {id(parameter): name for name, parameter in self._trained.items()}
            words = MOMENTS if state else ()
            for piece in pieces(self.engine.optimizer, words, changes=True):
                name = names[id(piece.parameter)]
                value = state[name][piece.word] if piece.word else training.trained[name]
                piece.part.copy_(cut_for(self.ranks, value, piece.part.numel()))
        self._publish(method)

    @contextmanager
    def whole(self) -> Generator[None]:
        """Put all weights together on rank 0, and keep the engine's hooks away."""
        if not self.is_sharded:
            yield
            return
        with whole_on_main(self._parameters, self.ranks), hooks_off(self.engine.module):
            yield

    def _link_moments(self) -> None:
        """Let the engine find the moments of all groups; by itself it stops after the first."""
        zero = self.engine.optimizer
        zero._hp_optimizer_states_linked = False
        zero._lazy_init_hp_params_optimizer_state()

    def _publish(self, method: AppliedMethod) -> None:
        if not self.is_sharded:
            method.publish()
        elif isinstance(method, AppliedLora):
            for layer in method.layers.values():
                if isinstance(layer, DoraLinear):
                    with self._gathered(list(layer.parameters())):
                        layer.measure()

    @contextmanager
    def _gathered(
        self, parameters: Iterable[nn.Parameter], *, changes: bool = False
    ) -> Generator[None]:
        if not self.is_sharded:
            yield
            return
        gathered = self._library.zero.GatheredParameters
        with gathered(list(parameters), modifier_rank=0 if changes else None):
            yield

    def _flat(self) -> list[Tensor]:
        """The parts of the trained values that this rank steps, as the engine holds them."""
        zero = self.engine.optimizer
        if self.is_sharded:
            return list(zero.fp32_partitioned_groups_flat)
        return list(zero.single_partition_of_fp32_groups)

    def _has_stepped(self) -> bool:
        state = self.engine.optimizer.optimizer.state
        return all(MOMENTS[0] in state.get(one, {}) for one in self._flat())

    def _step_count(self) -> Tensor:
        return self.engine.optimizer.optimizer.state[self._flat()[0]]["step"]

    def _make_moments(self, step: Tensor) -> None:
        """Make the moments, which are else made by the first step."""
        zero = self.engine.optimizer
        if self.is_sharded:
            make_moments(zero, step)
            return
        for one in self._flat():
            moments = {word: torch.zeros_like(one) for word in MOMENTS}
            zero.optimizer.state[one] = {"step": step.to(one.device, copy=True), **moments}
        self._link_moments()


def _import_library(ranks: Ranks, device: torch.device) -> Any:
    """Import the library and let it use the connections that there are."""
    _tell_place(ranks, device)
    # The engine calls exchanges by names that torch has replaced since.
    warnings.filterwarnings("ignore", message=REPLACED, category=FutureWarning)
    with _quiet():
        deepspeed: Any = import_module("deepspeed")
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        # Its exchange over shared memory is compiled at the first start, and waits for a rank that
        # is gone for ever; gloo does neither.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(auto_mpi_discovery=False, verbose=False)
    return deepspeed


def _tell_place(ranks: Ranks, device: torch.device) -> None:
    """Let the library compute on this device.

    It takes the GPU whose number is LOCAL_RANK, which is another one's where each process sees a
    GPU of its own, numbered 0, as on a Ray cluster.
    """
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    number = str(ranks.place.local_rank if device.type == "cpu" else device.index)
    for name in ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"):
        if name == "LOCAL_RANK" or name in os.environ:  # it wants both to be the same
            os.environ[name] = number


@contextmanager
def _quiet() -> Generator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
