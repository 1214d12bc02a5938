"""What one step is made of, and who decided each of its factors.

    tokens of a step = tokens of a micro-batch x micro-batches of a process x processes

The recipe is the only owner: tokens a step and at once are its own, the number of processes is its
strategy's or, under torchrun, srun or mpirun, the launcher's. How many micro-batches a process
computes follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunesmith.data.pack import StepPlan
from tunesmith.recipe.processes import num_processes
from tunesmith.recipe.recipe import Recipe

LAUNCHER = "launcher"


@dataclass(frozen=True)
class Factor:
    """A number, the recipe's key for it, and where its value came from."""

    value: int
    key: str
    origin: str

    def __str__(self) -> str:
        return f"{self.value:,} ({self.key}, {self.origin})"


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """The factors; micro-batches are the most of a step, over all processes and for one."""

    tokens_per_step: Factor
    micro_batch_tokens: Factor
    processes: Factor
    micro_batches: int
    micro_batches_a_process: int

    def as_json(self) -> dict[str, Any]:
        """The content of plan.json's `batch`."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"each step: tokens {self.tokens_per_step}, in micro-batches of "
            f"{self.micro_batch_tokens}: up to {self.micro_batches} of them, "
            f"{self.micro_batches_a_process} a process; processes {self.processes}"
        )


def plan_batch(
    recipe: Recipe, plan: Sequence[StepPlan], num_ranks: int, origins: Mapping[str, str]
) -> BatchPlan:
    """Work out the factors of the largest step; `origins` tell where values come from."""
    training, most = recipe.training, max(len(step.micro_batches) for step in plan)

    def factor(key: str, value: int) -> Factor:
        return Factor(value, key, origins.get(key, "default"))

    processes = factor("strategy.processes", num_ranks)
    if num_ranks != num_processes(recipe):
        processes = Factor(num_ranks, "strategy.processes", LAUNCHER)
    return BatchPlan(
        tokens_per_step=factor("training.tokens_per_step", training.tokens_per_step),
        micro_batch_tokens=factor("training.micro_batch_tokens", training.micro_batch_tokens),
        processes=processes,
        micro_batches=most,
        micro_batches_a_process=math.ceil(most / num_ranks),
    )
