"""The loop: a generator that makes one step and says so, again and again.

Whoever iterates decides what to do between two steps: write an event, evaluate, save, stop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tunesmith.core.errors import Fault, RunError
from tunesmith.core.memory_bound import bound_memory
from tunesmith.data.pack import StepPlan
from tunesmith.data.render import Example
from tunesmith.methods.base import AppliedMethod
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.fitting import step_that_fits
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import Objective
from tunesmith.training.schedule import count_warmup_steps, learning_rate
from tunesmith.training.step import SINGLE, TOKENS, StepOutcome
from tunesmith.training.strategies.base import Strategy


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """What one step did. `epoch` is how many epochs are complete, `seconds` the step's own time.

    `micro_batch_limit` is what memory allows, once it has run out; `warnings` say that it did.
    """

    step: int
    total_steps: int
    epoch: float
    learning_rate: float
    seconds: float
    outcome: StepOutcome
    micro_batch_limit: int | None
    warnings: tuple[str, ...]


def train_steps(
    model: LanguageModel,
    method: AppliedMethod,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    plan: Sequence[StepPlan],
    part: TrainingPart,
    *,
    peak_rate: float,
    pad_id: int,
    first_step: int = 1,
    objective: Objective = TOKENS,
    micro_batch_limit: int | None = None,
    strategy: Strategy = SINGLE,
) -> Iterator[StepDone]:
    """Run the plan from `first_step` on; the caller has put back the state before it."""
    warmup = count_warmup_steps(part.warmup, total_steps=len(plan), peak=peak_rate)
    model.decoder.train()
    for planned in plan[first_step - 1 :]:
        start = time.perf_counter()
        rate = learning_rate(
            planned.step,
            total_steps=len(plan),
            warmup_steps=warmup,
            peak=peak_rate,
            schedule=part.schedule,
        )
        bound_memory(strategy.ranks.place.local_size)
        try:
            fitted = step_that_fits(
                model,
                method,
                optimizer,
                examples,
                planned.micro_batches,
                limit=micro_batch_limit,
                pad_id=pad_id,
                learning_rate=rate,
                max_gradient_norm=part.max_gradient_norm,
                objective=objective,
                strategy=strategy,
                number=planned.step,
            )
        except RunError as error:
            raise _at_step(error, planned.step) from error
        micro_batch_limit = fitted.limit
        yield StepDone(
            step=planned.step,
            total_steps=len(plan),
            epoch=planned.epoch,
            learning_rate=rate,
            seconds=time.perf_counter() - start,
            outcome=fitted.outcome,
            micro_batch_limit=fitted.limit,
            warnings=fitted.warnings,
        )
        model.decoder.train()  # the caller may have evaluated
    model.decoder.eval()


def _at_step(error: RunError, step: int) -> RunError:
    faults = [
        Fault(found=fault.found, where=f"step {step}, {fault.where}", fix=fault.fix)
        for fault in error.faults
    ]
    return RunError(faults, code=error.code)
