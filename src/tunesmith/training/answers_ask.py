"""How many tokens are in memory while a run writes its answers, for the estimate of its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith.models.device import CPU
from tunesmith.recipe.evaluation import TOKENS_ANSWERED_AT_ONCE, own_metrics
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.task import has_head


@dataclass(frozen=True, kw_only=True)
class AnswersAsk:
    """`cached` tokens have keys and values; `read` of them, the questions, are read at once.

    `exact`: they are computed in fp32, of weights of 16 bits in copies (inference/precision.py).
    """

    cached: int
    read: int
    exact: bool


def answers_ask(
    recipe: Recipe, held_out: Sequence[int], device: torch.device = CPU
) -> AnswersAsk | None:
    """Return what the answers to held-out rows of these lengths ask for; None where none are."""
    part = recipe.evaluation
    scored = bool(own_metrics(recipe.task) or part.metrics)
    wanted = max(part.prompts, (part.metric_rows or len(held_out)) if scored else 0)
    rows = min(wanted, len(held_out))
    if has_head(recipe.task) or not rows or not (part.before or part.after):
        return None
    longest = max(held_out)
    at_once = min(rows, max(1, TOKENS_ANSWERED_AT_ONCE // (longest + part.max_new_tokens)))
    return AnswersAsk(
        cached=at_once * (longest + part.max_new_tokens),
        read=at_once * longest,
        exact=recipe.model.base is None and device == CPU,
    )
