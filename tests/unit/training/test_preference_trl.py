"""Losses and gradients beside TRL's own code, on the same tiny model and the same rows, in fp32."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fakes.tiny_llama import language_model, make_llama
from tests.fakes.tiny_preference import batches_of, is_rejected, make_pairs
from tunesmith.data.mismatch import Mismatched
from tunesmith.data.render import Example
from tunesmith.recipe.task import PreferenceTask
from tunesmith.training.objective import Objective
from tunesmith.training.preference import PairObjective, RatedObjective, References
from tunesmith.training.row_loss import log_probs_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from trl import DPOTrainer, KTOTrainer
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer
    from trl.trainer.utils import add_fused_lm_head

TOLERANCE = 1e-5
LENGTHS = [(9, 14), (40, 12), (33, 21)]
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")


def model_of(seed: int = 0) -> Any:
    return make_llama(seed=seed).requires_grad_(True)


def reference_of(examples: list[Example]) -> References:
    """Another model is the reference, so that the log-ratios are not zero."""
    other = language_model(model_of(seed=1))
    groups = [range(len(examples))]
    own = log_probs_of(other, examples, groups, pad_id=0)
    mismatched = log_probs_of(other, Mismatched(examples, 256), groups, pad_id=0)
    return References(own, mismatched)


def ours(objective: Objective, examples: list[Example]) -> tuple[float, dict[str, Tensor]]:
    model = model_of()
    batches = batches_of(examples, [list(range(len(examples)))])
    step = objective.begin_step(language_model(model), batches)
    loss = step.summed(batches[0]) / step.denominator
    loss.backward()
    return loss.item(), gradients_of(model)


def gradients_of(model: Any) -> dict[str, Tensor]:
    return {name: value.grad for name, value in model.named_parameters()}


def stand_in(model: Any, **values: Any) -> SimpleNamespace:
    """What TRL's loss functions read of their trainer."""
    accelerator = SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same)
    return SimpleNamespace(
        model=model,
        accelerator=accelerator,
        aux_loss_enabled=False,
        is_encoder_decoder=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_weights=[1.0],
        use_weighting=False,
        padding_value=0,
        pad_token_id=0,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **values,
    )


def same(value: Any) -> Any:
    return value


def padded(examples: list[Example]) -> dict[str, Tensor]:
    longest = max(len(example.tokens) for example in examples)
    inputs = {
        name: torch.zeros(len(examples), longest, dtype=torch.long)
        for name in ("input_ids", "attention_mask", "completion_mask")
    }
    for row, example in enumerate(examples):
        length = len(example.tokens)
        inputs["input_ids"][row, :length] = torch.tensor(example.tokens, dtype=torch.long)
        inputs["attention_mask"][row, :length] = 1
        inputs["completion_mask"][row, :length] = torch.tensor(example.weights > 0).long()
    return inputs


def assert_equal(left: tuple[float, Any], right: tuple[float, Any]) -> None:
    assert left[0] == pytest.approx(right[0], abs=TOLERANCE, rel=TOLERANCE)
    assert left[1].keys() == right[1].keys()
    for name, gradient in left[1].items():
        torch.testing.assert_close(gradient, right[1][name], atol=TOLERANCE, rtol=1e-4)
        assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("loss_type", "num_pairs", "options"),
    [
        ("sigmoid", 3, {"beta": 0.1}),
        # TRL smooths labels in its AOT loss, which of a single pair is conservative DPO.
        ("aot", 1, {"beta": 0.1, "label_smoothing": 0.2}),
        ("sigmoid_norm", 3, {"beta": 2.0, "length_normalized": True}),
    ],
)
def test_dpo_is_that_of_trl(loss_type: str, num_pairs: int, options: dict[str, Any]) -> None:
    examples = make_pairs(LENGTHS[:num_pairs])
    references = reference_of(examples)
    task = PreferenceTask(type="preference", loss="dpo", **options)
    model = model_of()
    add_fused_lm_head(model, outputs=OUTPUTS)
    trainer = stand_in(
        model,
        loss_types=[loss_type],
        beta=task.beta,
        label_smoothing=task.label_smoothing,
    )
    inputs = padded(examples[::2] + examples[1::2])
    inputs["ref_chosen_logps"] = references.answers_N[::2].float()
    inputs["ref_rejected_logps"] = references.answers_N[1::2].float()
    loss = DPOTrainer._compute_loss(trainer, model, inputs, False)
    loss.backward()
    expected = loss.item(), gradients_of(model)
    assert_equal(ours(PairObjective(task, references), examples), expected)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.2, 0.7)])
def test_kto_is_that_of_trl(weights: tuple[float, float]) -> None:
    examples = make_pairs(LENGTHS)
    references = reference_of(examples)
    assert references.mismatched_N is not None
    good, bad = weights
    task = PreferenceTask(
        type="preference", loss="kto", desirable_weight=good, undesirable_weight=bad
    )
    model = model_of()
    add_fused_lm_head(model, outputs=OUTPUTS)
    trainer = stand_in(
        model, loss_type="kto", calculate_KL=True, beta=0.1, desirable_weight=good,
        undesirable_weight=bad,
    )  # fmt: skip
    trainer._compute_kl_logps = functools.partial(KTOTrainer._compute_kl_logps, trainer)
    mismatched = Mismatched(examples, 256)
    inputs = padded(examples)
    inputs |= {f"KL_{name}": value for name, value in padded(mismatched[:]).items()}
    inputs |= {"label": ~is_rejected(examples), "ref_logps": references.answers_N.float()}
    # A reference that is nearer to the mismatched rows, so that z0 is above 0 and counts.
    lower = references.mismatched_N - 40
    inputs["ref_KL_logps"] = lower.float()
    loss = KTOTrainer._compute_loss(trainer, model, inputs, False)
    loss.backward()
    assert trainer._metrics["eval"]["kl"][0] > 1
    objective = RatedObjective(
        task, is_rejected(examples), References(references.answers_N, lower), mismatched, pad_id=0
    )
    assert_equal(ours(objective, examples), (loss.item(), gradients_of(model)))


def paired(examples: list[Example]) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {}
    for name, rows in (("chosen", examples[::2]), ("rejected", examples[1::2])):
        side = padded(rows)
        inputs[f"{name}_input_ids"] = side["input_ids"]
        inputs[f"{name}_attention_mask"] = side["attention_mask"]
        inputs[f"{name}_labels"] = side["input_ids"].masked_fill(side["completion_mask"] == 0, -100)
    return inputs


def answers_from_the_second_token(examples: list[Example]) -> list[Example]:
    """TRL's ORPO trains the prompt of the chosen answer, too; of one token there is none."""
    for example in examples:
        example.weights[1:] = 1.0
    return examples


@pytest.mark.parametrize(
    ("trainer_type", "task", "options"),
    [
        (
            ORPOTrainer,
            PreferenceTask(type="preference", loss="orpo", odds_weight=0.3),
            {"beta": 0.3},
        ),
        (
            CPOTrainer,
            PreferenceTask(type="preference", loss="simpo", beta=2.5, gamma=0.8),
            {"loss_type": "simpo", "beta": 2.5, "simpo_gamma": 0.8, "cpo_alpha": 0.0, "alpha": 0.0},
        ),
    ],
)
def test_losses_without_a_reference_are_those_of_trl(
    trainer_type: Any, task: PreferenceTask, options: dict[str, Any]
) -> None:
    examples = answers_from_the_second_token(make_pairs(LENGTHS))
    model = model_of()
    trainer = stand_in(model, label_smoothing=0.0, label_pad_token_id=-100, **options)
    for name in (
        "concatenated_forward", "concatenated_inputs", "get_batch_logps", "odds_ratio_loss",
        "cpo_loss",
    ):  # fmt: skip
        method = getattr(trainer_type, name, None)
        if method is not None:
            is_static = isinstance(vars(trainer_type).get(name), staticmethod)
            setattr(trainer, name, method if is_static else functools.partial(method, trainer))
    loss, _ = trainer_type.get_batch_loss_metrics(trainer, model, paired(examples))
    loss.backward()
    assert_equal(ours(PairObjective(task), examples), (loss.item(), gradients_of(model)))
