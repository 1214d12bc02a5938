"""From the recipe's strategy and this process's place to the ranks, and to a strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import assert_never

import torch

from tunesmith.core.errors import Fault, MachineError, RecipeError, RunError
from tunesmith.core.rank_place import RankPlace
from tunesmith.core.run_dir import RunDir
from tunesmith.data.pack import StepPlan
from tunesmith.models.device import CPU, gpu_id
from tunesmith.recipe.deepspeed_config import engine_settings
from tunesmith.recipe.method import FullMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import (
    DdpStrategy,
    DeepSpeedStrategy,
    FsdpStrategy,
    SingleStrategy,
    has_own_masters,
    require_engine,
)
from tunesmith.recipe.task import has_head
from tunesmith.training.strategies.base import Strategy
from tunesmith.training.strategies.ddp import DataParallel
from tunesmith.training.strategies.offload import offload_folder
from tunesmith.training.strategies.ranks import Ranks, join
from tunesmith.training.strategies.single import Single
from tunesmith.training.strategies.watch import Watch, end_with_launcher

# A warning is worth its line from this share of idle ranks on.
IDLE_SHARE = 0.2


def require_place(recipe: Recipe, place: RankPlace) -> None:
    """See to it that the recipe's strategy is one for so many processes.

    Raises:
        RecipeError: several processes were started for a recipe of one.
    """
    if isinstance(recipe.strategy, SingleStrategy) and place.size > 1:
        fault = Fault(
            found=f"{place.size} processes were started, and strategy: single is one process",
            where="recipe: strategy",
            fix="set strategy: ddp, or start one process",
        )
        raise RecipeError(fault, code="ranks")


def require_strategy(recipe: Recipe, dtype: str) -> None:
    """See to it, before weights are loaded, that a strategy can train what the recipe asks for.

    Raises:
        MachineError: its library is not installed.
        RecipeError: it cannot; consistency.py has what the recipe alone tells.
    """
    require_engine(recipe.strategy)
    strategy = recipe.strategy
    if isinstance(strategy, SingleStrategy | DdpStrategy) or dtype == "fp32":
        return
    fix = "set model.dtype: fp32, or use strategy: ddp"
    if isinstance(recipe.method, FullMethod) and not has_own_masters(strategy):
        what, fix = "method: full", f"use strategy: {{type: deepspeed, zero: 2}}, or {fix}"
    elif getattr(recipe.method, "modules_to_save", ()):
        what = "method.modules_to_save"
    elif has_head(recipe.task):
        what = "a task with a head"
    else:
        return
    fault = Fault(
        found=f"{what} on weights in {dtype} is trained through copies in fp32, which the engine "
        "does not see",
        where=f"recipe: strategy: {strategy.type}",
        fix=fix,
    )
    raise RecipeError(fault, code="strategy_unsupported")


def strategy_warnings(recipe: Recipe, size: int, plan: Sequence[StepPlan]) -> Iterator[str]:
    """Yield what makes several ranks, or the strategy, of little use."""
    strategy = recipe.strategy
    if isinstance(strategy, SingleStrategy):
        return
    if size == 1:
        if isinstance(strategy, DdpStrategy) or strategy.offload is None:
            yield (
                f"strategy {strategy.type} with one process has nothing to spread; to do: set "
                "strategy.processes, or use strategy: single"
            )
        return
    idle = sum(max(0, size - len(step.micro_batches)) for step in plan)
    if idle > IDLE_SHARE * size * len(plan):
        yield (
            f"{idle / (size * len(plan)):.0%} of the ranks' time is idle: steps have fewer "
            f"micro-batches than the {size} ranks; to do: raise training.tokens_per_step (now "
            f"{recipe.training.tokens_per_step:,}) or lower training.micro_batch_tokens (now "
            f"{recipe.training.micro_batch_tokens:,})"
        )


def require_own_gpus(ranks: Ranks, device: torch.device) -> None:
    """See to it that no two ranks are on one GPU, which NCCL refuses in words of its own.

    Which GPU a number means depends on the process: on a Ray cluster each has a GPU 0.

    Raises:
        MachineError: there are more processes than GPUs.
    """
    gpus = ranks.everybody(gpu_id(device))
    shared = next((gpu for gpu in gpus if gpu is not None and gpus.count(gpu) > 1), None)
    if shared is None:
        return
    first, second, *_ = (rank for rank, gpu in enumerate(gpus) if gpu == shared)
    known = len({gpu for gpu in gpus if gpu is not None})
    fault = Fault(
        found=f"processes {first} and {second} are on one GPU ({shared})",
        where="recipe: strategy.processes",
        fix=f"start a process for each GPU, here {known}, or set model.device: cpu",
    )
    raise MachineError(fault, code="ranks")


def meet(
    recipe: Recipe,
    place: RankPlace,
    run_dir: RunDir,
    tell: Callable[[RunError], None],
    is_stopping: Callable[[], bool],
    device: torch.device = CPU,
) -> Ranks:
    """Meet the other ranks, and begin to watch over them; `tell` is called where one hangs."""
    if place.size == 1 or isinstance(recipe.strategy, SingleStrategy):
        end_with_launcher()
        return Ranks(place)
    watch = Watch(run_dir.ranks, place, recipe.strategy.hang_after_s, tell, is_stopping)
    watch.start()
    return join(place, watch, device)


def make_strategy(recipe: Recipe, ranks: Ranks, run_folder: Path = Path()) -> Strategy:
    """Return what spreads the steps."""
    match recipe.strategy:
        case SingleStrategy():
            return Single(ranks)
        case DdpStrategy():
            return DataParallel(ranks, recipe.training.seed)
        case DeepSpeedStrategy():
            # The library takes seconds to import, which few runs need.
            from tunesmith.training.strategies.deepspeed import Zero

            training = recipe.training
            return Zero(
                ranks,
                recipe.strategy,
                training.seed,
                training.max_gradient_norm,
                engine_settings(recipe),
                offload_folder(recipe.strategy, run_folder),
            )
        case FsdpStrategy():
            # So does this part of torch.
            from tunesmith.training.strategies.fsdp import FullyCut

            return FullyCut(ranks, recipe.strategy, recipe.training.seed)
        case _:
            assert_never(recipe.strategy)
