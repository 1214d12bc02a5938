"""Reports about preference training: one denominator for every objective, one adapter a layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.fakes.tiny_llama import language_model, make_llama, randomize_adapters
from tests.fakes.tiny_preference import batches_of, is_rejected, make_pairs
from tunesmith.data.mismatch import Mismatched
from tunesmith.methods.lora_method import AppliedLora, apply_lora
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.task import PreferenceTask
from tunesmith.training.fitting import split
from tunesmith.training.objective import Objective, TokenObjective
from tunesmith.training.preference import PairObjective, RatedObjective, References
from tunesmith.training.row_loss import log_probs_of
from tunesmith.training.step import StepOutcome, train_step

OBJECTIVES = ("chat", "dpo", "orpo", "simpo", "kto")
ALL_OBJECTIVES = pytest.mark.parametrize("name", OBJECTIVES)
ROWS = make_pairs([(30, 26)] * 4)  # four equal rows


def objective_of(name: str, model: Any) -> Objective:
    if name == "chat":
        return TokenObjective()
    task = PreferenceTask.model_validate({"type": "preference", "loss": name})
    mismatched = Mismatched(ROWS, 64)
    known = References(
        log_probs_of(language_model(model), ROWS, [range(8)], pad_id=0),
        log_probs_of(language_model(model), mismatched, [range(8)], pad_id=0),
    )
    if name == "kto":
        return RatedObjective(task, is_rejected(ROWS), known, mismatched, pad_id=0)
    return PairObjective(task, known)


def step(name: str, groups: list[list[int]]) -> tuple[StepOutcome, AppliedLora, Any]:
    model = make_llama()
    applied = apply_lora(model, LoraMethod(rank=4, alpha=8), seed=0)
    objective = objective_of(name, model)
    randomize_adapters(model)
    outcome = train_step(
        language_model(model),
        applied,
        torch.optim.AdamW(applied.trainable.values()),
        batches_of(ROWS, groups),
        learning_rate=1e-3,
        max_gradient_norm=1e9,
        objective=objective,
    )
    return outcome, applied, model


@ALL_OBJECTIVES
def test_b053_four_micro_batches_of_one_row_have_the_gradient_of_one_of_four(name: str) -> None:
    whole, _, _ = step(name, [[0, 1, 2, 3, 4, 5, 6, 7]])
    cut, _, _ = step(name, [[0, 1], [2, 3], [4, 5], [6, 7]])
    assert whole.gradient_norm > 1e-3
    assert cut.gradient_norm / whole.gradient_norm == pytest.approx(1.0, abs=1e-3)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-4)


def test_b053_an_objective_without_a_denominator_is_refused_by_the_step() -> None:
    class Undeclared:
        def begin_step(self, *_: Any) -> Any:
            return self

    model = make_llama()
    applied = apply_lora(model, LoraMethod(rank=4, alpha=8), seed=0)
    undeclared: Any = Undeclared()
    with pytest.raises(AttributeError, match="denominator"):
        train_step(
            language_model(model),
            applied,
            torch.optim.AdamW(applied.trainable.values()),
            batches_of(ROWS, [[0, 1], [2, 3]]),
            learning_rate=1e-3,
            max_gradient_norm=1.0,
            objective=undeclared,
        )
    assert all(parameter.grad is None for parameter in applied.trainable.values())


@ALL_OBJECTIVES
def test_b073_the_task_changes_nothing_of_the_adapters(name: str) -> None:
    _, applied, model = step(name, [[0, 1, 2, 3]])
    linears = [
        path
        for path, module in make_llama().named_modules()
        if isinstance(module, nn.Linear) and path != "lm_head"
    ]
    factors = [path for path, _ in model.named_parameters() if path.endswith("lora_A")]
    assert len(factors) == len(linears) == len(applied.layers) == 14
    assert all(path.count("lora_") == 1 for path in factors)


@pytest.mark.parametrize("limit", [1, 60, 120, 1000])
def test_a_micro_batch_that_memory_makes_smaller_keeps_pairs_together(limit: int) -> None:
    parts = split([(0, 1, 4, 5, 2, 3, 6, 7)], ROWS, limit, rows_together=2)
    pairs = [part[place : place + 2] for part in parts for place in range(0, len(part), 2)]
    assert sorted(pairs) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert len(parts) == {1: 4, 60: 4, 120: 2, 1000: 1}[limit]
