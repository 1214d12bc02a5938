"""A recipe that goes on from an adapter: what the adapter is holds for the recipe, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from tunesmith.core.errors import Fault, ModelError
from tunesmith.recipe.adapter_config import AdapterConfig, read_adapter_config

Values = dict[str, Any]


def expand_adapter(values: Values, folder: Path) -> tuple[list[Fault], list[tuple[str, str]]]:
    """Write out what `method.adapter` brings, in place; return what contradicts it and what is set.

    Paths are taken from `folder`; a run's folder stands for its final/. `type: lora` stands for the
    family: the adapter says which of it.
    """
    method = values.get("method")
    if not isinstance(method, dict):
        return [], []
    given = cast(Values, method)
    name = given.get("adapter")
    if not isinstance(name, str) or not name.strip():
        return [], []
    adapter = adapter_path(name, folder)
    given["adapter"] = str(adapter)
    try:
        brought = _brought(read_adapter_config(adapter))
    except ModelError as error:
        return [_at_key(fault) for fault in error.faults], []
    faults = [
        Fault(
            found=f"method.{key} is {given[key]!r}, and the adapter's is {value!r}",
            where=f"recipe: method.{key}",
            fix=f"remove method.{key}, or start a new adapter by removing method.adapter",
        )
        for key, value in brought.items()
        if key in given and not _agrees(key, given[key], value)
    ]
    placed = [("method", key) for key in brought if key not in given or key == "type"]
    given |= {key: value for key, value in brought.items() if key not in given or key == "type"}
    return faults, placed


def adapter_path(name: str, folder: Path) -> Path:
    """The folder of the adapter that a recipe names."""
    path = Path(os.path.abspath(folder / Path(name).expanduser()))
    return path / "final" if (path / "resolved.json").is_file() else path


def _brought(config: AdapterConfig) -> Values:
    """The method's values. DoRA with a scale of its own is DoRA with an alpha that makes it."""
    scales_twice = config.is_dora and config.is_rslora
    return {
        "type": config.type,
        "rank": config.rank,
        "alpha": config.alpha * config.rank**0.5 if scales_twice else config.alpha,
        "dropout": config.dropout,
        "init": "default",
        "exclude_targets": [],
        "modules_to_save": list(config.whole),
        "targets": list(config.targets) if isinstance(config.targets, tuple) else config.targets,
    }


def _agrees(key: str, given: object, brought: object) -> bool:
    match key:
        case "type":
            return given in ("lora", brought)
        case "dropout":  # how it is trained, not what it is
            return True
        case "targets" | "modules_to_save":
            names = (given,) if isinstance(given, str) else given
            wanted = (brought,) if isinstance(brought, str) else brought
            return sorted(cast(Any, names)) == sorted(cast(Any, wanted))
        case _:
            return given == brought


def _at_key(fault: Fault) -> Fault:
    where = f"recipe: method.adapter, {fault.where}"
    return Fault(found=fault.found, where=where, fix=fault.fix)
