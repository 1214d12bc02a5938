"""Puts saved adapters onto a base model: for inference and evaluation, or to train them further.

Several LoRA adapters on one model add up: y = x (W + sum of weight_i scale_i B_i A_i)^T, which is
one adapter of their ranks' sum. DoRA sets the length of the whole row, which a sum has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.placed import placed
from tunesmith.methods.adapter_files import MAX_NAMES_IN_MESSAGE, Adapter, Update, read_adapter
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.dora import DoraLinear
from tunesmith.methods.lora import LoraLinear
from tunesmith.methods.lora_method import AdapterLayer, AppliedLora
from tunesmith.methods.start import Factors
from tunesmith.methods.task_word import peft_task
from tunesmith.methods.whole import put_whole
from tunesmith.models.linear import in_features, is_linear, out_features, replace_module
from tunesmith.recipe.adapter_config import library_word
from tunesmith.recipe.method import LoraMethod


@dataclass(frozen=True)
class Weighted:
    """An adapter's folder, and by how much its update counts."""

    folder: Path
    weight: float = 1.0


def load_adapter(model: nn.Module, folder: Path) -> AppliedMethod:
    """Wrap `model` with the adapter in `folder`; every tensor finds its place, or it is an error.

    Raises:
        ModelError: the folder holds no adapter, or one that was made for another model.
    """
    if library_word(folder) is not None:
        # The library takes a second to import, which few adapters need.
        from tunesmith.methods.peft_library import load_peft

        return load_peft(model, folder)
    return load_adapters(model, [Weighted(folder)])


def load_adapters(model: nn.Module, stack: Sequence[Weighted]) -> AppliedLora:
    """Wrap `model` with the sum of adapters.

    Raises:
        ModelError: a folder holds no adapter, or one that was made for another model, or one of
            several is of a kind that cannot be added up.
    """
    adapters = [read_adapter(one.folder) for one in stack]
    weights = dict(model.named_parameters(remove_duplicate=False))
    for adapter in adapters:
        require_fit(model, adapter)
        adapter.require_copies(weights.get)
    config, updates, values = adapters[0].config, adapters[0].updates, adapters[0].whole
    if len(stack) > 1 or stack[0].weight != 1.0:
        _require_sums(adapters)
        updates = _sum(adapters, [one.weight for one in stack])
    part = LoraMethod(
        type=config.type, rank=config.rank, alpha=config.alpha, targets=tuple(updates)
    )
    return _attach(model, updates, part, values)


def continue_adapter(model: nn.Module, part: LoraMethod) -> AppliedLora:
    """Wrap `model` with the adapter that the recipe goes on from, to be trained.

    Raises:
        ModelError: there is no such adapter, or it was made for another model.
    """
    assert part.adapter is not None, "the recipe names an adapter"
    adapter = read_adapter(Path(placed(part.adapter)))
    require_fit(model, adapter)
    adapter.require_copies(dict(model.named_parameters(remove_duplicate=False)).get)
    return _attach(model, adapter.updates, part, adapter.whole)


def require_fit(model: nn.Module, adapter: Adapter) -> None:
    """See to it that each update of an adapter has its linear layer, and each target its update.

    Raises:
        ModelError: "matched N of M", with the first names that do not fit.
    """
    linears = {path: module for path, module in model.named_modules() if is_linear(module)}
    updates = adapter.updates
    wrong = [path for path in updates if not _fits(linears.get(path), updates[path])]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    missing = [
        path
        for path, module in linears.items()
        if adapter.config.aims_at(path) and path not in updates and module is not head
    ]
    if wrong or missing:
        raise ModelError(_does_not_fit(adapter, wrong, missing, linears), code="adapter_mismatch")


def _fits(linear: nn.Module | None, update: Update) -> bool:
    if linear is None:
        return False
    inner, outer = in_features(linear), out_features(linear)
    return (update.a_RI.shape[1], update.b_OR.shape[0]) == (inner, outer)


def _attach(
    model: nn.Module,
    updates: Mapping[str, Update],
    part: LoraMethod,
    values: Mapping[str, Tensor],
) -> AppliedLora:
    whole = put_whole(model, values) if values else None
    layers: dict[str, AdapterLayer] = {}
    for path, update in updates.items():
        linear = model.get_submodule(path)
        layers[path] = attached_layer(linear, update, dropout=part.dropout)
        replace_module(model, path, layers[path])
    return AppliedLora(part=part, layers=layers, whole=whole, task=peft_task(model))


def attached_layer(linear: nn.Module, update: Update, *, dropout: float = 0.0) -> AdapterLayer:
    """Return the layer that computes with a saved update of `linear`."""
    start = Factors(update.a_RI, update.b_OR)
    if update.magnitude_O is None:
        return LoraLinear(linear, start, scale=update.scale, dropout=dropout)
    layer = DoraLinear(linear, start, scale=update.scale, dropout=dropout)
    with torch.no_grad():
        layer.magnitude.copy_(update.magnitude_O)
    layer.measure()
    return layer


def _require_sums(adapters: Sequence[Adapter]) -> None:
    faults = [
        Fault(
            found="a DoRA adapter among several: it sets the length of each whole row, which "
            "depends on the others",
            where=str(adapter.folder),
            fix="merge it into its base first: tunesmith merge; then add the others to the result",
        )
        for adapter in adapters
        if adapter.config.is_dora
    ] + [
        Fault(
            found="an adapter among several that brings whole modules, which do not add up",
            where=str(adapter.folder),
            fix="merge it into its base first: tunesmith merge; then add the others to the result",
        )
        for adapter in adapters
        if adapter.whole
    ]
    if faults:
        raise ModelError(faults, code="adapter_unsupported")


def _sum(adapters: Sequence[Adapter], weights: Sequence[float]) -> dict[str, Update]:
    """Return one update a module: the factors side by side, each B with its scale and weight."""
    total: dict[str, Update] = {}
    for adapter, weight in zip(adapters, weights, strict=True):
        for path, update in adapter.updates.items():
            b_OR = update.b_OR * (update.scale * weight)
            known = total.get(path)
            a_RI = update.a_RI
            if known is not None:
                a_RI, b_OR = torch.cat([known.a_RI, a_RI]), torch.cat([known.b_OR, b_OR], 1)
            total[path] = replace(update, a_RI=a_RI, b_OR=b_OR, scale=1.0)
    return total


def _does_not_fit(
    adapter: Adapter, wrong: list[str], missing: list[str], linears: Mapping[str, nn.Module]
) -> Fault:
    total = len(adapter.updates) + len(missing)
    named = ", ".join([*wrong, *missing][:MAX_NAMES_IN_MESSAGE])
    return Fault(
        found=f"the adapter does not fit this model: matched {total - len(wrong) - len(missing)} "
        f"of {total} layers; not {named}{_about(wrong, missing, linears)}",
        where=str(adapter.folder),
        fix="use the base model that adapter_config.json names",
    )


def _about(wrong: list[str], missing: list[str], linears: Mapping[str, nn.Module]) -> str:
    """Say what is the matter with the first of the names, by what the model has."""
    if not wrong:
        return f" (the model has {missing[0]}, and the adapter has no factors for it)"
    found = linears.get(wrong[0])
    if found is not None:
        return f" (the model has it as [{out_features(found)}, {in_features(found)}])"
    near = [path for path in linears if path.endswith(wrong[0].rpartition(".")[2])] or [*linears]
    return f" (the model has {', '.join(near[:2])}, ...)"
