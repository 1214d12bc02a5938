"""Invariant 1 for preference losses: the gradient of a step does not depend on its layout."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.fakes.tiny_llama import language_model, make_llama, randomize_adapters
from tests.fakes.tiny_preference import batches_of, is_rejected, make_pairs
from tunesmith.data.mismatch import Mismatched
from tunesmith.methods.lora_method import AppliedLora, apply_lora
from tunesmith.methods.switching import adapters_off
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.task import PreferenceTask
from tunesmith.training.objective import Objective
from tunesmith.training.preference import PairObjective, RatedObjective, References
from tunesmith.training.row_loss import log_probs_of, loss_of_rows, row_log_probs

LENGTHS = [(9, 14), (40, 12), (33, 21), (150, 60)]
GROUPS = [[0, 1, 2, 3], [4, 5, 6, 7]]
TASKS = {
    "dpo": PreferenceTask(type="preference"),
    "conservative": PreferenceTask(type="preference", label_smoothing=0.2),
    "normalized": PreferenceTask(type="preference", length_normalized=True, beta=2.0),
    "simpo": PreferenceTask(type="preference", loss="simpo"),
    "orpo": PreferenceTask(type="preference", loss="orpo"),
    "kto": PreferenceTask(type="preference", loss="kto", undesirable_weight=1.5),
}
ALL_TASKS = pytest.mark.parametrize("name", TASKS)


def make(*, trained: bool = True) -> tuple[Any, AppliedLora]:
    model = make_llama()
    applied = apply_lora(model, LoraMethod(rank=4, alpha=8), seed=0)
    if trained:
        randomize_adapters(model)
    return model, applied


def objective_for(task: PreferenceTask, model: Any, examples: list[Any]) -> Objective:
    with adapters_off(model):
        own = log_probs_of(language_model(model), examples, GROUPS, pad_id=0)
        mismatched = Mismatched(examples, 256)
        other = log_probs_of(language_model(model), mismatched, GROUPS, pad_id=0)
    if task.loss == "kto":
        rejected = is_rejected(examples)
        return RatedObjective(task, rejected, References(own, other), mismatched, pad_id=0)
    return PairObjective(task, References(own))


def step_of(
    name: str, groups: list[list[int]], *, trained: bool = True, **changes: Any
) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
    model, applied = make(trained=trained)
    examples = make_pairs(LENGTHS)
    objective = objective_for(TASKS[name], model, examples)
    batches = batches_of(examples, groups)
    step = objective.begin_step(language_model(model, **changes), batches)
    total = 0.0
    for batch in batches:
        loss = step.summed(batch)
        total += loss.item()
        (loss / step.denominator).backward()
    gradients = {name: value.grad for name, value in applied.trainable.items()}
    return total / step.denominator, gradients, dict(step.measures())


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=5e-6, rtol=5e-4)
        assert left[name].abs().max() > 0


@ALL_TASKS
def test_micro_batches_of_one_pair_equal_one_of_all(name: str) -> None:
    whole = step_of(name, [[0, 1, 2, 3, 4, 5, 6, 7]])
    for groups in ([[0, 1], [2, 3], [4, 5], [6, 7]], [[6, 7, 2, 3], [0, 1, 4, 5]]):
        loss, gradients, measures = step_of(name, groups)
        assert loss == pytest.approx(whole[0], rel=1e-5)
        assert measures == pytest.approx(whole[2], rel=1e-4, abs=1e-6)
        assert_same(gradients, whole[1])


def test_ratings_may_be_cut_between_the_two_answers_of_a_pair() -> None:
    whole = step_of("kto", [[0, 1, 2, 3, 4, 5, 6, 7]])
    loss, gradients, _ = step_of("kto", [[0], [1, 2], [3, 4, 5], [6], [7]])
    assert loss == pytest.approx(whole[0], rel=1e-5)
    assert_same(gradients, whole[1])


@ALL_TASKS
def test_a_shared_prefix_computed_once_gives_the_gradient_of_whole_rows(name: str) -> None:
    groups = [[0, 1], [2, 3], [4, 5], [6, 7]]
    shared, whole = step_of(name, groups), step_of(name, groups, share_prefix=False)
    assert shared[0] == pytest.approx(whole[0], rel=1e-5)
    assert_same(shared[1], whole[1])


@pytest.mark.parametrize("name", ["dpo", "conservative", "normalized"])
def test_before_the_first_step_dpo_is_log_two_and_prefers_nothing(name: str) -> None:
    loss, _, measures = step_of(name, GROUPS, trained=False)
    assert loss == pytest.approx(math.log(2), abs=1e-7)
    assert measures["reward_margin"] == 0
    assert measures["reward_accuracy"] == 0.5


def test_before_the_first_step_kto_is_one_half_at_a_reference_point_of_zero() -> None:
    loss, _, measures = step_of("kto", GROUPS, trained=False)
    assert loss == pytest.approx((0.5 + 0.5 * 1.5) / 2, abs=1e-5)
    assert measures["reference_point"] == 0
    assert measures["reward_accuracy"] == 0.5


def test_a_fresh_model_is_its_own_reference_as_with_the_adapter_off() -> None:
    model, _ = make(trained=False)
    examples = make_pairs(LENGTHS)
    fresh = log_probs_of(language_model(model), examples, GROUPS, pad_id=0)
    with adapters_off(model):
        off = log_probs_of(language_model(model), examples, GROUPS, pad_id=0)
    randomize_adapters(model)
    assert fresh.equal(off)
    trained = log_probs_of(language_model(model), examples, GROUPS, pad_id=0)
    assert (trained - off).abs().min() > 1e-3


def test_the_gradient_through_log_probabilities_is_that_of_the_whole_logits() -> None:
    """Any function of the rows' log-probabilities, against autograd over all logits."""
    examples = make_pairs(LENGTHS)
    (batch,) = batches_of(examples, [list(range(8))])

    def function(log_probs_B: torch.Tensor) -> torch.Tensor:
        return (log_probs_B / 10).sin().sum() + (log_probs_B[0] * log_probs_B[3]) / 100

    model, applied = make()
    loss = loss_of_rows(language_model(model), batch, function)
    loss.backward()
    ours = {name: value.grad for name, value in applied.trainable.items()}

    model, applied = make()
    rows = []
    for example in examples:
        tokens = torch.tensor(example.tokens, dtype=torch.long)
        logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1].log_softmax(-1)
        picked = logits.gather(-1, tokens[1:, None])[:, 0]
        rows.append((picked * torch.tensor(example.weights[1:])).sum())
    expected = function(torch.stack(rows).double())
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert_same(ours, {name: value.grad for name, value in applied.trainable.items()})
    found = row_log_probs(language_model(model), batch)
    torch.testing.assert_close(found, torch.stack(rows).detach().double(), atol=1e-4, rtol=1e-5)
