"""How many processes carry a recipe out on this machine."""

from __future__ import annotations

from tunesmith.core.hardware import count_gpus
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import SingleStrategy

PROCESSES_WITHOUT_GPU = 2


def num_processes(recipe: Recipe) -> int:
    """How many processes a recipe asks for; by default one for each GPU that it may use."""
    strategy = recipe.strategy
    if isinstance(strategy, SingleStrategy):
        return 1
    if strategy.processes != "auto":
        return strategy.processes
    gpus = 0 if recipe.model.device == "cpu" else count_gpus()
    return gpus or PROCESSES_WITHOUT_GPU
