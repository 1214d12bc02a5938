"""Puts LoRA layers into a model, and takes them out of the computation again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import torch
from torch import Tensor, nn

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.methods.adapter_files import (
    PEFT_PREFIX,
    Update,
    named_tensors,
    write_adapter,
)
from tunesmith.methods.base import Shape
from tunesmith.methods.dora import DoraLinear
from tunesmith.methods.lora import LoraLinear, factors_of
from tunesmith.methods.start import Factors, default_start, principal_start
from tunesmith.methods.targets import find_targets
from tunesmith.methods.task_word import peft_task
from tunesmith.methods.whole import WholeModules, find_whole, train_whole
from tunesmith.models.linear import device_of, is_transposed, replace_module, weight_of
from tunesmith.recipe.method import LoraMethod

AdapterLayer = LoraLinear | DoraLinear
OriginalWeight = Callable[[str], Tensor]


@dataclass(frozen=True, eq=False)
class AppliedLora:
    """LoRA layers in a model; `layers` holds them by the path of the layer that each replaced."""

    part: LoraMethod
    layers: dict[str, AdapterLayer]
    whole: WholeModules | None = None
    task: str | None = "CAUSAL_LM"
    """PEFT's word for what the model does."""

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """Both factors of every layer, with DoRA its lengths, and what is trained whole."""
        masters = self.whole.masters if self.whole else {}
        return {**dict(adapter_tensors(self.layers)), **masters}

    @property
    def rate_factors(self) -> Mapping[str, float]:
        """LoRA+: B learns faster than A."""
        factor = self.part.b_rate_factor
        if factor == 1.0:
            return {}
        return {f"{path}.lora_B.weight": factor for path in self.layers}

    def publish(self) -> None:
        """Measure rows anew with DoRA; the layers compute with the trained factors themselves."""
        if self.whole:
            self.whole.publish()
        for layer in self.layers.values():
            if isinstance(layer, DoraLinear):
                layer.measure()

    def save(self, folder: Path, *, base: str) -> None:
        """Write the adapter in PEFT's file layout.

        A start that is subtracted makes it one of twice the rank, whose alpha keeps the scale.
        """
        updates = {path: update_of(layer) for path, layer in self.layers.items()}
        alphas = {path: self._alpha(update) for path, update in updates.items()}
        write_adapter(
            folder,
            updates,
            base=base,
            type=self.part.type,
            alphas=alphas,
            dropout=self.part.dropout,
            whole=self.whole.saved() if self.whole else None,
            task=self.task,
        )

    def saved_shapes(self) -> dict[str, Shape]:
        """Both factors of every layer, twice as wide where a start is subtracted, and the rest."""
        updates = {path: update_of(layer) for path, layer in self.layers.items()}
        shapes = {name: tuple(value.shape) for name, value in named_tensors(updates).items()}
        shapes |= self.whole.saved_shapes() if self.whole else {}
        return {PEFT_PREFIX + name: shape for name, shape in shapes.items()}

    def _alpha(self, update: Update) -> float:
        """The recipe's own where it is what makes the scale, and no rounding beside it."""
        rank = update.a_RI.shape[0]
        if (rank, update.scale) == (self.part.rank, self.part.scale):
            return self.part.alpha
        return update.scale * (math.sqrt(rank) if self.part.type == "rslora" else rank)


def update_of(layer: AdapterLayer) -> Update:
    """What a layer does to the matrix of its base."""
    a, b = factors_of(layer)
    magnitude = layer.magnitude if isinstance(layer, DoraLinear) else None
    return Update(a, b, layer.scale, magnitude)


def apply_lora(
    model: nn.Module, part: LoraMethod, *, seed: int, original: OriginalWeight | None = None
) -> AppliedLora:
    """Replace each target by a LoRA layer around it.

    At step 0 nothing changes, save with a LoftQ start, which needs `original`: the weight of a
    module's path as it was before it was quantised.

    Raises:
        RecipeError: the targets match nothing in this model.
        ModelError: the original weights are not there.
    """
    assert not any(isinstance(module, AdapterLayer) for module in model.modules()), "applied twice"
    kind = DoraLinear if part.type == "dora" else LoraLinear
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, AdapterLayer] = {}
    paths = find_whole(model, part.modules_to_save)
    targets = find_targets(model, part.targets, part.exclude_targets, whole=paths)
    if part.type == "dora":
        _require_no_head(model, targets)
    whole = train_whole(model, paths) if paths else None
    for path, linear in targets.items():
        start = _start(path, linear, part, generator, original)
        layer = kind(linear, start, scale=part.scale, dropout=part.dropout)
        replace_module(model, path, layer)
        layers[path] = layer
    return AppliedLora(part=part, layers=layers, whole=whole, task=peft_task(model))


def _require_no_head(model: nn.Module, targets: Mapping[str, nn.Module]) -> None:
    get_head = getattr(model, "get_output_embeddings", None)
    head = get_head() if get_head else None
    for path, module in targets.items():
        if module is head:
            fault = Fault(
                found=f"dora on {path}, the output head: its loss is made from chunks of logits, "
                "which do not know a row's length",
                where="recipe: method.targets",
                fix=f"leave {path} out, use method: lora, or name it in method.modules_to_save",
            )
            raise RecipeError(fault)


def _start(
    path: str,
    linear: nn.Module,
    part: LoraMethod,
    generator: torch.Generator,
    original: OriginalWeight | None,
) -> Factors:
    rank, scale = part.rank, part.scale
    match part.init:
        case "default":
            return default_start(linear, rank, generator)
        case "pissa":
            return principal_start(weight_of(linear), rank, scale, generator, is_subtracted=True)
        case "loftq":
            assert original is not None, "a LoftQ start needs the weights before quantising"
            whole = original(path).to(device_of(linear)).float()
            lost = (whole.T if is_transposed(linear) else whole) - weight_of(linear).float()
            return principal_start(lost, rank, scale, generator, is_subtracted=False)
        case _:
            assert_never(part.init)


def adapter_tensors(layers: dict[str, AdapterLayer]) -> Iterator[tuple[str, nn.Parameter]]:
    """Name the factors as PEFT names them, without its prefix."""
    for path, layer in layers.items():
        yield f"{path}.lora_A.weight", layer.lora_A
        yield f"{path}.lora_B.weight", layer.lora_B
        if isinstance(layer, DoraLinear):
            yield f"{path}.lora_magnitude_vector", layer.magnitude
