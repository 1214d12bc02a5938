"""The learning rate of every step: a linear rise, then the schedule's way down."""

from __future__ import annotations

import math
from typing import Literal, assert_never

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.recipe.share import Share

Schedule = Literal["cosine", "linear", "constant"]


def learning_rate(
    step: int, *, total_steps: int, warmup_steps: int, peak: float, schedule: Schedule
) -> float:
    """Return the rate of update `step` (from 1). Without warm-up the first update uses the peak.

    The rise is peak * step / warmup_steps; the cosine is that of Loshchilov and Hutter (2017) with
    its minimum at 0, which is reached after the last update.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    progress = (step - 1 - warmup_steps) / max(1, total_steps - warmup_steps)
    match schedule:
        case "constant":
            return peak
        case "linear":
            return peak * (1 - progress)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            assert_never(schedule)


def count_warmup_steps(warmup: Share | int, *, total_steps: int, peak: float) -> int:
    """Return the warm-up in steps; a share is rounded up.

    Raises:
        RecipeError: the warm-up is longer than the run, which would never reach its rate.
    """
    if isinstance(warmup, Share):
        return math.ceil(warmup.fraction * total_steps - 1e-9)
    if warmup <= total_steps:
        return warmup
    reached = peak * total_steps / warmup
    raise RecipeError(
        Fault(
            found=f"a warm-up of {warmup} steps in a run of {total_steps}: the highest rate reached"
            f" would be {reached:.3g} and not {peak:.3g}",
            where="recipe: training.warmup",
            fix=f"set training.warmup to at most {total_steps}, or to a share such as 3%",
        )
    )
