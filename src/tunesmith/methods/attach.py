"""Puts a saved adapter onto a base model, for inference and evaluation."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tunesmith.core.errors import Fault, ModelError
from tunesmith.methods.adapter_files import MAX_NAMES_IN_MESSAGE, read_adapter
from tunesmith.methods.lora_method import AppliedLora, adapter_tensors, apply_lora
from tunesmith.models.linear import is_linear
from tunesmith.recipe.method import LoraMethod


def load_adapter(model: nn.Module, folder: Path) -> AppliedLora:
    """Wrap `model` with the adapter in `folder`; every tensor finds its place, or it is an error.

    Raises:
        ModelError: the folder holds no adapter, or one that was made for another model.
    """
    config, tensors = read_adapter(folder)
    paths = tuple(
        dict.fromkeys(
            name.removesuffix(suffix)
            for name in tensors
            for suffix in (".lora_A.weight", ".lora_B.weight")
            if name.endswith(suffix)
        )
    )
    linears = {path for path, module in model.named_modules() if is_linear(module)}
    absent = [path for path in paths if path not in linears]
    if absent or not paths:
        raise ModelError(_does_not_fit(folder, absent, len(paths)))
    part = LoraMethod(
        type=config.type,
        rank=config.rank,
        alpha=config.alpha,
        dropout=config.dropout,
        targets=paths,
    )
    applied = apply_lora(model, part, seed=0)
    _fill(dict(adapter_tensors(applied.layers)), tensors, folder)
    applied.publish()
    return applied


def _fill(places: dict[str, nn.Parameter], tensors: dict[str, Tensor], folder: Path) -> None:
    wrong = sorted(
        name
        for name in places.keys() | tensors.keys()
        if name not in places or name not in tensors or places[name].shape != tensors[name].shape
    )
    if wrong:
        raise ModelError(_does_not_fit(folder, wrong, len(places)))
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])


def _does_not_fit(folder: Path, wrong: list[str], expected: int) -> Fault:
    named = ", ".join(wrong[:MAX_NAMES_IN_MESSAGE])
    return Fault(
        found=f"{len(wrong)} tensors of the adapter do not fit this model ({expected} expected)"
        + (f": {named}" if named else ""),
        where=str(folder),
        fix="use the base model that adapter_config.json names",
    )
