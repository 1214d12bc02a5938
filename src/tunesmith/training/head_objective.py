"""What a model with a head of its own minimises, in nats.

classes           -log softmax of the right class, the mean over rows
several classes   -log sigmoid of each class as it is, the mean over classes and rows
tags              -log softmax of the right tag, the mean over the tokens that are tagged
span              -log softmax over the places of the text and the one of no answer, for the
                  beginning and for the end; the mean of both, over rows
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tunesmith.data.collate import Batch
from tunesmith.data.example import NONE
from tunesmith.models.headed import Head, HeadedModel
from tunesmith.training.loss import LanguageModel
from tunesmith.training.objective import StepObjective
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks


@dataclass(frozen=True, eq=False)
class HeadObjective:
    """The mean over rows, or over tagged tokens, of what the head's numbers cost."""

    headed: HeadedModel
    share_prefix: bool = True
    recompute: bool = False
    rows_together: int = 1

    def begin_step(
        self,
        model: LanguageModel,  # noqa: ARG002 (the head's own model computes)
        batches: Sequence[Batch],
        ranks: Ranks = ONE_RANK,
    ) -> StepObjective:
        """Count what is to be said right."""
        units = sum(count_units(self.headed.head, batch) for batch in batches)
        (total,) = ranks.sums([units])
        return _HeadStep(self, total, ranks)

    def summed(self, batch: Batch) -> tuple[Tensor, int]:
        """Return the summed cost of a batch, and how many rows or tokens are right."""
        logits_SK = self.headed.logits(
            batch.tokens_BT,
            batch.lengths_B,
            batch.weights_BT > 0,
            share_prefix=self.share_prefix,
            recompute=self.recompute,
        )
        return head_cost(self.headed.head, logits_SK, batch)


def count_units(head: Head, batch: Batch) -> int:
    """How many rows a batch has, or with tags how many tokens that have one."""
    return len(batch.marks) if head.kind == "tags" else len(batch.row_ids)


def head_cost(head: Head, logits_SK: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Return the sum of the costs above, and how many of the counted units are right."""
    match head.kind:
        case "classes" if head.several:
            targets_BK = several_targets(head, batch).to(logits_SK.device)
            cost = F.binary_cross_entropy_with_logits(logits_SK, targets_BK, reduction="sum")
            right = ((logits_SK > 0) == (targets_BK > 0)).all(1)
            return cost / len(head.labels), int(right.sum())
        case "classes" | "tags":
            places = [head.labels.index(label) for _, _, label in batch.marks]
            targets_S = torch.tensor(places).to(logits_SK.device)
            cost = F.cross_entropy(logits_SK, targets_S, reduction="sum")
            return cost, int((logits_SK.argmax(1) == targets_S).sum())
        case "span":
            return _span_cost(head, logits_SK, batch)


def several_targets(head: Head, batch: Batch) -> Tensor:
    """Return [B, K]: 1 where a row has the class."""
    targets_BK = torch.zeros(len(batch.row_ids), len(head.labels))
    for row, _, label in batch.marks:
        if label:
            targets_BK[row, head.labels.index(label)] = 1.0
    return targets_BK


def _span_cost(head: Head, logits_SK: Tensor, batch: Batch) -> tuple[Tensor, int]:
    asked_BT = batch.weights_BT > 0
    said = {(row, label): place for row, place, label in batch.marks if label}
    total = logits_SK.new_zeros(())
    right = 0
    first = 0
    for row, count in enumerate(asked_BT.sum(1).tolist()):
        own_PK = logits_SK[first : first + count]
        places = asked_BT[row].nonzero()[:, 0].tolist()
        none = said.get((row, NONE), -1)
        ends = [said.get((row, label), none) for label in head.labels]
        targets = torch.tensor([places.index(end) for end in ends]).to(logits_SK.device)
        total = total + F.cross_entropy(own_PK.T, targets, reduction="sum") / len(head.labels)
        right += int((own_PK.argmax(0) == targets).all())
        first += count
    return total, right


@dataclass
class _HeadStep:
    objective: HeadObjective
    denominator: float
    ranks: Ranks
    right: int = 0

    def summed(self, batch: Batch) -> Tensor:
        total, right = self.objective.summed(batch)
        self.right += right
        return total

    def measures(self) -> Mapping[str, float]:
        (right,) = self.ranks.sums([self.right])
        return {"accuracy": right / self.denominator}
