"""Preference objectives: a mean over the pairs (or the rated answers) of a step.

The reference is the model as it was before step 1, whatever the method: its log-probabilities are
found once, before training, and kept. No second model is held and none is run in a step.

KTO compares each answer with a reference point z0 that all answers of a step share. As in the paper
and in TRL it is the mean log-ratio of mismatched rows, a prompt with the answer to another one, and
not below 0. The mean is over the whole step, and each row's mismatch is fixed (data/mismatch.py):
so z0 does not depend on how the step is spread over micro-batches.

Shapes: B rows of a micro-batch, P pairs of it (rows 2p and 2p + 1 are pair p), N all examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import torch
from torch import Tensor

from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.render import Example
from tunesmith.models.evaluating import evaluating
from tunesmith.recipe.task import PreferenceTask
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import StepObjective
from tunesmith.training.preference_losses import dpo_loss, kto_loss, odds_ratio_loss, simpo_loss
from tunesmith.training.row_loss import loss_of_rows, row_log_probs
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks


@dataclass(frozen=True, eq=False)
class References:
    """Log-probabilities by the model before step 1, [N] in fp64; `mismatched` for KTO only."""

    answers_N: Tensor
    mismatched_N: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PairObjective:
    """DPO, SimPO or ORPO; without `references` where the loss needs none."""

    task: PreferenceTask
    references: References | None = None
    rows_together: int = 2

    def begin_step(
        self, model: LanguageModel, batches: Sequence[Batch], ranks: Ranks = ONE_RANK
    ) -> StepObjective:
        """Count pairs and, for ORPO, the tokens of chosen answers."""
        own_pairs = sum(len(batch.lengths_B) // 2 for batch in batches)
        own_weight = sum(float(batch.weights_BT[::2].sum()) for batch in batches)
        pairs, chosen_weight = ranks.sums([float(own_pairs), own_weight])
        return _PairStep(self, model, ranks, pairs, chosen_weight)


@dataclass(frozen=True, eq=False)
class _PairStep:
    objective: PairObjective
    model: LanguageModel
    ranks: Ranks
    denominator: float
    chosen_weight: float
    seen: list[_SeenPairs] = field(default_factory=list["_SeenPairs"])

    def summed(self, batch: Batch) -> Tensor:
        def loss(log_probs_B: Tensor) -> Tensor:
            losses_P, rewards_B = self._losses(log_probs_B, batch)
            self.seen.append(_SeenPairs(rewards_B.detach(), log_probs_B.detach()))
            return losses_P.sum()

        return loss_of_rows(self.model, batch, loss)

    def _losses(self, log_probs_B: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the losses [P] and the rewards [B], in which accuracy and margin are told."""
        task, weights_B = self.objective.task, batch.weights_BT.double().sum(1)
        means_B = log_probs_B / weights_B
        match task.loss:
            case "dpo":
                assert task.beta is not None
                assert task.label_smoothing is not None
                ratios_B = log_probs_B - _reference(self.objective.references, batch)
                if task.length_normalized:
                    ratios_B = ratios_B / weights_B
                losses_P = dpo_loss(
                    *_sides(ratios_B), beta=task.beta, label_smoothing=task.label_smoothing
                )
                return losses_P, task.beta * ratios_B
            case "simpo":
                assert task.beta is not None
                assert task.gamma is not None
                losses_P = simpo_loss(*_sides(means_B), beta=task.beta, gamma=task.gamma)
                return losses_P, task.beta * means_B
            case "orpo":
                assert task.odds_weight is not None
                losses_P = task.odds_weight * odds_ratio_loss(*_sides(means_B))
                # The chosen answers' loss is a mean over the step's tokens, not over its pairs.
                share = self.denominator / self.chosen_weight
                return losses_P - share * log_probs_B[::2], means_B
            case "kto":
                raise AssertionError("kto has an objective of its own")
            case _:
                assert_never(task.loss)

    def measures(self) -> Mapping[str, float]:
        rewards = self.ranks.gathered(_joined([one.rewards_B for one in self.seen]))
        log_probs = self.ranks.gathered(_joined([one.log_probs_B for one in self.seen]))
        chosen, rejected = _sides(rewards)
        return {
            "reward_accuracy": _share_above(chosen, rejected),
            "reward_margin": float((chosen - rejected).mean()),
            "chosen_reward": float(chosen.mean()),
            "rejected_reward": float(rejected.mean()),
            "chosen_log_prob": float(log_probs[::2].mean()),
            "rejected_log_prob": float(log_probs[1::2].mean()),
        }


@dataclass(frozen=True, eq=False)
class _SeenPairs:
    rewards_B: Tensor
    log_probs_B: Tensor


@dataclass(frozen=True, eq=False)
class RatedObjective:
    """KTO. `is_rejected_N` says which answers are bad; `mismatched` has N rows."""

    task: PreferenceTask
    is_rejected_N: Tensor
    references: References
    mismatched: Sequence[Example]
    pad_id: int
    rows_together: int = 1

    def begin_step(
        self, model: LanguageModel, batches: Sequence[Batch], ranks: Ranks = ONE_RANK
    ) -> StepObjective:
        """Count the answers and find their reference point."""
        (rows,) = ranks.sums([float(sum(len(batch.lengths_B) for batch in batches))])
        z0 = self._reference_point(model, batches, ranks)
        return _RatedStep(self, model, ranks, rows, z0)

    def _reference_point(
        self, model: LanguageModel, batches: Sequence[Batch], ranks: Ranks
    ) -> float:
        known_N = self.references.mismatched_N
        assert known_N is not None, "kto has the mismatched rows' log-probabilities"
        ratios: list[Tensor] = []
        with evaluating(model.decoder):
            for batch in batches:
                mismatched = to_batch([self.mismatched[i] for i in batch.indices], self.pad_id)
                ratios.append(row_log_probs(model, mismatched) - known_N[list(batch.indices)])
        return max(0.0, float(ranks.gathered(_joined(ratios)).mean()))


@dataclass(frozen=True, eq=False)
class _RatedStep:
    objective: RatedObjective
    model: LanguageModel
    ranks: Ranks
    denominator: float
    z0: float
    seen: list[_SeenRated] = field(default_factory=list["_SeenRated"])

    def summed(self, batch: Batch) -> Tensor:
        task = self.objective.task
        assert task.beta is not None
        assert task.desirable_weight is not None
        assert task.undesirable_weight is not None
        beta, good, bad = task.beta, task.desirable_weight, task.undesirable_weight
        is_rejected_B = self.objective.is_rejected_N[list(batch.indices)]

        def loss(log_probs_B: Tensor) -> Tensor:
            ratios_B = log_probs_B - _reference(self.objective.references, batch)
            self.seen.append(
                _SeenRated(beta * ratios_B.detach(), log_probs_B.detach(), is_rejected_B)
            )
            losses_B = kto_loss(
                ratios_B, is_rejected_B, z0=self.z0, beta=beta,
                desirable_weight=good, undesirable_weight=bad,
            )  # fmt: skip
            return losses_B.sum()

        return loss_of_rows(self.model, batch, loss)

    def measures(self) -> Mapping[str, float]:
        """Return the measures of a pair's step; a good answer is right above z0, a bad one below.

        What there is no answer of is left out.
        """
        rewards = self.ranks.gathered(_joined([one.rewards_B for one in self.seen]))
        log_probs = self.ranks.gathered(_joined([one.log_probs_B for one in self.seen]))
        rejected = self.ranks.gathered(_joined([one.is_rejected_B for one in self.seen])) > 0
        assert self.objective.task.beta is not None
        sign = torch.where(rejected, -1.0, 1.0).double()
        right = sign * (rewards - self.objective.task.beta * self.z0)
        accuracy = _share_above(right, torch.zeros_like(right))
        measures = {"reference_point": self.z0, "reward_accuracy": accuracy}
        for name, chosen in (("chosen", ~rejected), ("rejected", rejected)):
            if chosen.any():
                measures[f"{name}_reward"] = float(rewards[chosen].mean())
                measures[f"{name}_log_prob"] = float(log_probs[chosen].mean())
        if "chosen_reward" in measures and "rejected_reward" in measures:
            measures["reward_margin"] = measures["chosen_reward"] - measures["rejected_reward"]
        return measures


@dataclass(frozen=True, eq=False)
class _SeenRated:
    rewards_B: Tensor
    log_probs_B: Tensor
    is_rejected_B: Tensor


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return all values side by side; a rank without rows has none."""
    return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=torch.float64)


def _reference(references: References | None, batch: Batch) -> Tensor:
    assert references is not None, "this loss has a reference"
    return references.answers_N[list(batch.indices)]


def _share_above(left: Tensor, right: Tensor) -> float:
    """Return the share that is above; equals count half: who prefers nothing is right by chance."""
    return float(((left > right).double() + (left >= right).double()).mean()) / 2


def _sides(values_B: Tensor) -> tuple[Tensor, Tensor]:
    return values_B[::2], values_B[1::2]
