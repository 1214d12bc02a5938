"""Modules that are trained whole beside adapters: embeddings, an output head, a classifier.

The model computes with a copy of their weights in the place of the original ones, which are kept:
`active` puts the ones or the others in place. A matrix that stands in two places (a tied head) is
one matrix still, trained in both.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.core.errors import Fault, ModelError, RecipeError
from tunesmith.methods.base import Shape
from tunesmith.methods.masters import make_masters, publish_masters
from tunesmith.methods.module_names import short_names
from tunesmith.models.linear import is_quantised

WHERE = "recipe: method.modules_to_save"
# The child of the model that holds the switch; no module of a model is called so.
SWITCH = "trained_whole"


@dataclass(frozen=True, eq=False)
class _Weight:
    """A weight that is trained, where it stands (module and attribute), and what was there."""

    names: tuple[str, ...]
    places: tuple[tuple[nn.Module, str], ...]
    original: nn.Parameter
    trained: nn.Parameter


class WholeModules(nn.Module):
    """The switch between the trained weights and the original ones. It computes nothing."""

    def __init__(self, weights: Sequence[_Weight]) -> None:
        super().__init__()
        self._weights = tuple(weights)
        self._active = True
        self.masters = make_masters((weight.names[0], weight.trained) for weight in weights)

    @property
    def active(self) -> bool:
        """Whether the model computes with the trained weights."""
        return self._active

    @active.setter
    def active(self, value: bool) -> None:
        self._active = value
        for weight in self._weights:
            for module, name in weight.places:
                setattr(module, name, weight.trained if value else weight.original)

    def publish(self) -> None:
        """Round the masters into the weights that the model computes with."""
        publish_masters({weight.names[0]: weight.trained for weight in self._weights}, self.masters)

    def saved(self) -> dict[str, Tensor]:
        """Return the trained values in fp32, under every name of a weight."""
        return {
            name: self.masters[weight.names[0]].detach().clone()
            for weight in self._weights
            for name in weight.names
        }

    def saved_shapes(self) -> dict[str, Shape]:
        """Return the shapes of what `saved` returns."""
        return {
            name: tuple(self.masters[weight.names[0]].shape)
            for weight in self._weights
            for name in weight.names
        }


def find_whole(model: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    """Return the paths of modules to train whole: by their path, or by its end (`lm_head`).

    Raises:
        RecipeError: a name matches no module that has weights, or one of a quantised layer.
    """
    faults: list[Fault] = []
    paths: dict[str, None] = {}
    owners = {path: module for path, module in model.named_modules() if path and _has_own(module)}
    for name in names:
        found = [path for path in owners if path == name or path.endswith("." + name)]
        faults += [_no_module(name, owners)] if not found else []
        faults += [_quantised(path) for path in found if _holds_quantised(owners[path])][:1]
        paths |= dict.fromkeys(found)
    if faults:
        raise RecipeError(faults)
    return tuple(path for path in paths if not any(_is_below(path, other) for other in paths))


def train_whole(model: nn.Module, paths: Sequence[str]) -> WholeModules:
    """Put trained copies in the place of the weights of the modules at `paths`, and the switch."""
    places = list(_places(model))
    chosen = {
        id(place.parameter)
        for place in places
        if any(place.name.startswith(path + ".") for path in paths)
    }
    groups: dict[object, list[_Place]] = {}
    for place in places:
        if id(place.parameter) in chosen:
            groups.setdefault(id(place.parameter), []).append(place)
    return _switch(model, [_weight(group) for group in groups.values()])


def put_whole(model: nn.Module, values: Mapping[str, Tensor]) -> WholeModules:
    """Put saved values in the place of weights, by name, and the switch.

    Two names of one matrix stay one where their values are equal; else each place has its own.

    Raises:
        ModelError: the model has no such weight, or one of another shape.
    """
    places = {place.name: place for place in _places(model)}
    wrong = [
        name
        for name, value in values.items()
        if name not in places or places[name].parameter.shape != value.shape
    ]
    if wrong:
        raise ModelError(_does_not_fit(wrong[0], values, places), code="adapter_mismatch")
    groups: list[list[_Place]] = []
    for name, value in values.items():
        place = places[name]
        same = (
            group
            for group in groups
            if group[0].parameter is place.parameter and values[group[0].name].equal(value)
        )
        group = next(same, None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    switch = _switch(model, [_weight(group) for group in groups])
    with torch.no_grad():
        for name, master in switch.masters.items():
            master.copy_(values[name])
    switch.publish()
    return switch


def _weight(places: Sequence[_Place]) -> _Weight:
    original = places[0].parameter
    return _Weight(
        names=tuple(place.name for place in places),
        places=tuple((place.module, place.attribute) for place in places),
        original=original,
        trained=nn.Parameter(original.detach().clone()),
    )


def _switch(model: nn.Module, weights: Sequence[_Weight]) -> WholeModules:
    switch = WholeModules(weights)
    model.add_module(SWITCH, switch)
    switch.active = True
    return switch


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a parameter stands: under a name, as an attribute of a module."""

    name: str
    module: nn.Module
    attribute: str
    parameter: nn.Parameter


def _places(model: nn.Module) -> Iterator[_Place]:
    """Yield every place of every parameter."""
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield _Place(f"{path}.{name}" if path else name, module, name, parameter)


def _does_not_fit(name: str, values: Mapping[str, Tensor], places: Mapping[str, _Place]) -> Fault:
    has = f"{list(places[name].parameter.shape)}" if name in places else "no such weight"
    return Fault(
        found=f"the adapter brings {name} of shape {list(values[name].shape)}; the model has {has}",
        where="the adapter's modules_to_save",
        fix="use the base model that adapter_config.json names",
    )


def _has_own(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _holds_quantised(module: nn.Module) -> bool:
    return any(is_quantised(inner) for inner in module.modules())


def _is_below(path: str, other: str) -> bool:
    return path.startswith(other + ".")


def _quantised(path: str) -> Fault:
    return Fault(
        found=f"{path} is kept in fewer bits, which cannot be trained",
        where=WHERE,
        fix="leave it out (an adapter can be put on it), or leave model.base out",
    )


def _no_module(name: str, owners: dict[str, Any]) -> Fault:
    leaves = [
        path for path, one in owners.items() if any(True for _ in one.parameters(recurse=False))
    ]
    kinds = list(dict.fromkeys(short_names(leaves).values()))
    near = difflib.get_close_matches(name.rpartition(".")[2], kinds, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return Fault(
        found=f"{name!r} matches none of the model's modules",
        where=WHERE,
        fix=f"{hint}choose from {', '.join(kinds)}",
    )
