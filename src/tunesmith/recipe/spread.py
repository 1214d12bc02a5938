"""Another strategy or target for a run that goes on: checkpoints hold whole values, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.core.errors import RecipeError
from tunesmith.core.run_dir import RunDir, read_json, write_json
from tunesmith.recipe.consistency import contradictions
from tunesmith.recipe.load import load_recipe, recipe_from_resolved
from tunesmith.recipe.yaml_text import dotted

PARTS = ("strategy", "target")
# The least recipe, so that the values of these parts are read as in any other.
LEAST = {"model": "any", "task": "chat", "data": {"train": "any"}}


def sets_strategy(override: str) -> bool:
    """Whether a `--set` is about the strategy or the target."""
    return override.partition("=")[0].strip().partition(".")[0] in PARTS


def change_strategy(run_dir: RunDir, overrides: Sequence[str]) -> None:
    """Put other values of the strategy and the target into a run's own recipe.

    Raises:
        RecipeError: there are no such values, or they do not go with the rest of the recipe.
    """
    content: dict[str, Any] = read_json(run_dir.resolved_json)
    own = {part: content["recipe"][part] for part in PARTS if part in content["recipe"]}
    changed = load_recipe({**LEAST, **own}, overrides)
    values = {"strategy": changed.recipe.strategy, "target": changed.recipe.target}
    recipe = recipe_from_resolved(run_dir.resolved_json).model_copy(update=values)
    faults = list(contradictions(recipe, lambda path: f"--set {dotted(path)}"))
    if faults:
        raise RecipeError(faults)
    origins = {key: origin for key, origin in content["origins"].items() if not sets_strategy(key)}
    origins |= {key: origin for key, origin in changed.origins.items() if sets_strategy(key)}
    content["recipe"] |= {key: part.model_dump(mode="json") for key, part in values.items()}
    write_json(run_dir.resolved_json, {**content, "origins": origins})
