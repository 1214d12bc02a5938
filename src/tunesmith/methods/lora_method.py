"""Puts LoRA layers into a model, and takes them out of the computation again."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.methods.adapter_files import AdapterConfig, write_adapter
from tunesmith.methods.dora import DoraLinear
from tunesmith.methods.lora import LoraLinear
from tunesmith.methods.targets import find_targets
from tunesmith.recipe.method import LoraMethod

AdapterLayer = LoraLinear | DoraLinear


@dataclass(frozen=True, eq=False)
class AppliedLora:
    """LoRA layers in a model; `layers` holds them by the path of the layer that each replaced."""

    part: LoraMethod
    layers: dict[str, AdapterLayer]

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """Both factors of every layer, and with DoRA its lengths."""
        return dict(adapter_tensors(self.layers))

    def publish(self) -> None:
        """Measure rows anew with DoRA; the layers compute with the trained factors themselves."""
        for layer in self.layers.values():
            if isinstance(layer, DoraLinear):
                layer.measure()

    def save(self, folder: Path, *, base: str) -> None:
        """Write the adapter in PEFT's file layout."""
        config = AdapterConfig(
            base=base,
            type=self.part.type,
            rank=self.part.rank,
            alpha=self.part.alpha,
            dropout=self.part.dropout,
        )
        write_adapter(folder, config, self.trainable)


def apply_lora(model: nn.Module, part: LoraMethod, *, seed: int) -> AppliedLora:
    """Replace each target by a LoRA layer around it. At step 0 nothing changes.

    Raises:
        RecipeError: the targets match nothing in this model.
    """
    assert not any(isinstance(module, AdapterLayer) for module in model.modules()), "applied twice"
    kind = DoraLinear if part.type == "dora" else LoraLinear
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, AdapterLayer] = {}
    for path, linear in find_targets(model, part.targets).items():
        layer = kind(
            linear, rank=part.rank, scale=part.scale, dropout=part.dropout, generator=generator
        )
        replace_module(model, path, layer)
        layers[path] = layer
    return AppliedLora(part=part, layers=layers)


def adapter_tensors(layers: dict[str, AdapterLayer]) -> Iterator[tuple[str, nn.Parameter]]:
    """Name the factors as PEFT names them, without its prefix."""
    for path, layer in layers.items():
        yield f"{path}.lora_A.weight", layer.lora_A
        yield f"{path}.lora_B.weight", layer.lora_B
        if isinstance(layer, DoraLinear):
            yield f"{path}.lora_magnitude_vector", layer.magnitude


@contextmanager
def adapters_off(model: nn.Module) -> Generator[None]:
    """Compute as the base model does, for the time of a `with` block."""
    layers = [module for module in model.modules() if isinstance(module, AdapterLayer)]
    before = [layer.active for layer in layers]
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer, active in zip(layers, before, strict=True):
            layer.active = active


def replace_module(model: nn.Module, path: str, replacement: nn.Module) -> None:
    """Put `replacement` at `path`."""
    parent_path, _, name = path.rpartition(".")
    parent: Any = model.get_submodule(parent_path)
    setattr(parent, name, replacement)
