"""A settings file of DeepSpeed's own beside a recipe: what is in both must be the same.

What the recipe decides (the stage, the optimizer, the batch) is checked and may be "auto", as in
other tools that fill it in; everything else (buckets, overlap) goes to the engine as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.core.placed import placed
from tunesmith.core.run_dir import read_json
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import DeepSpeedStrategy
from tunesmith.recipe.yaml_text import KeyPath, dotted

AUTO = "auto"
# What the plan of steps decides, and the engine is not asked for.
BATCH_KEYS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
LEFT_OUT = (*BATCH_KEYS, "optimizer", "bf16", "fp16")


def _of_recipe(path: KeyPath) -> str:
    return f"recipe: {dotted(path)}"


def engine_settings(
    recipe: Recipe, locate: Callable[[KeyPath], str] = _of_recipe
) -> dict[str, Any]:
    """Return the settings of the recipe's own file that go to the engine; none without a file.

    `locate` tells where in the recipe a value stands.

    Raises:
        RecipeError: the file contradicts the recipe; every such value is named.
        UserError: there is no such file, or it is no JSON.
    """
    strategy = recipe.strategy
    if not isinstance(strategy, DeepSpeedStrategy) or strategy.config is None:
        return {}
    values = read_json(Path(placed(strategy.config)))
    if not isinstance(values, dict):
        fix = "write the settings as a JSON object: {...}"
        found = "settings that are no JSON object"
        raise RecipeError(Fault(found=found, where=strategy.config, fix=fix))
    settings = cast("dict[str, Any]", values)
    faults = list(_faults(settings, recipe, strategy, locate))
    if faults:
        raise RecipeError(faults)
    kept = {key: value for key, value in settings.items() if key not in LEFT_OUT}
    return cast("dict[str, Any]", _without_auto(kept))


def merged(settings: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file's settings with those that the recipe asks for, part by part."""
    result = dict(settings)
    for key, value in asked.items():
        inner = result.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        result[key] = merged(cast("dict[str, Any]", inner), value) if both else value
    return result


def _faults(
    settings: Mapping[str, Any],
    recipe: Recipe,
    strategy: DeepSpeedStrategy,
    locate: Callable[[KeyPath], str],
) -> Iterator[Fault]:
    file, training = str(strategy.config), recipe.training
    tokens, at_once = training.tokens_per_step, training.micro_batch_tokens
    for path, value in _leaves(settings):
        if value == AUTO:
            continue
        if path in BATCH_KEYS:
            yield Fault(
                found=f"{path} is {value}; in the recipe training.tokens_per_step {tokens:,} and "
                f"training.micro_batch_tokens {at_once:,} make it about "
                f"{math.ceil(tokens / at_once)} micro-batches a step, over all processes",
                where=f"{file}; {locate(('training', 'tokens_per_step'))}",
                fix=f'set {path} to "auto" or remove it',
            )
        elif path.partition(".")[0] == "scheduler":
            yield Fault(
                found=f"{path} is {value!r}; here training.schedule is {training.schedule}",
                where=f"{file}; {locate(('training', 'schedule'))}",
                fix="remove scheduler",
            )
        known = _decided(recipe, strategy).get(path)
        if known is not None and not _is_same(value, known[1]):
            yield Fault(
                found=f"{path} is {value!r}, and the recipe's {known[0]} is {known[1]!r}",
                where=f"{file}; {locate(tuple(known[0].split('.')))}",
                fix=f'set {path} to "auto" or remove it, or change {known[0]}',
            )


def _decided(recipe: Recipe, strategy: DeepSpeedStrategy) -> dict[str, tuple[str, Any]]:
    """By the file's path: the recipe's key, and its value."""
    part = recipe.training
    offload = ("strategy.offload", strategy.offload or "none")
    folder = ("strategy.offload_path", strategy.offload_path)
    return {
        "zero_optimization.offload_optimizer.nvme_path": folder,
        "zero_optimization.offload_param.nvme_path": folder,
        "zero_optimization.stage": ("strategy.zero", strategy.zero),
        "zero_optimization.offload_optimizer.device": offload,
        "zero_optimization.offload_param.device": offload,
        "gradient_clipping": ("training.max_gradient_norm", part.max_gradient_norm),
        "optimizer.type": ("training.optimizer", part.optimizer),
        "optimizer.params.lr": ("training.learning_rate", recipe.learning_rate),
        "optimizer.params.betas": ("training.betas", list(part.betas)),
        "optimizer.params.eps": ("training.epsilon", part.epsilon),
        "optimizer.params.weight_decay": ("training.weight_decay", part.weight_decay),
        "fp16.enabled": ("model.dtype", False),
    }


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(cast("dict[str, Any]", value), f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _is_same(value: Any, known: Any) -> bool:
    if value == "nvme":  # the engine's word for any disk
        value = "disk"
    if isinstance(value, str) and isinstance(known, str):
        return value.lower() == known.lower()
    return bool(value == known)


def _without_auto(value: Any) -> Any:
    """Leave out what is to be filled in: the engine has no such word."""
    if not isinstance(value, dict):
        return value
    inner = cast("dict[str, Any]", value)
    return {key: _without_auto(one) for key, one in inner.items() if one != AUTO}
