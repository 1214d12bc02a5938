"""From a head's numbers to what it says of a row: classes, tags, or words of the text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

import torch
from torch import Tensor

from tunesmith.data.collate import Batch
from tunesmith.data.example import Example
from tunesmith.inference.batches import Computed, compute_batches
from tunesmith.inference.grouping import group_by_length
from tunesmith.models.evaluating import evaluating
from tunesmith.models.headed import Head, HeadedModel

BATCH_TOKENS = 4096
LONGEST_SPAN = 30  # tokens, as the BERT paper's scripts for SQuAD have it


@dataclass(frozen=True)
class HeadAnswer:
    """What the head says of one row.

    `labels` are the classes, or the tags of the places that it reads; `span` is the first and the
    last place of an answer, None where there is none; `scores` are probabilities by label, of a
    span that of its two ends. `margin` is by how much the best span is ahead: of no answer where
    the head knows it, in log odds.
    """

    labels: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    span: tuple[int, int] | None = None
    margin: float = 0.0


def read_batches(
    headed: HeadedModel,
    examples: Sequence[Example],
    *,
    pad_id: int,
    max_tokens: int = BATCH_TOKENS,
) -> Iterator[Computed[Tensor]]:
    """Let the head read rows in batches of similar length; the model is left in its mode.

    Returns the numbers of each batch at the places that are read: [S, K].

    Raises:
        RunError: one row alone does not fit into memory.
    """
    groups = group_by_length([len(one.tokens) for one in examples], max_tokens=max_tokens)

    def read(batch: Batch) -> Tensor:
        with evaluating(headed.model):
            return headed.logits(batch.tokens_BT, batch.lengths_B, batch.weights_BT > 0)

    return compute_batches(read, examples, groups, pad_id=pad_id)


def answers_of(head: Head, read: Computed[Tensor]) -> list[HeadAnswer]:
    """Return what the head says of each row of a batch."""
    asked_BT = read.batch.weights_BT > 0
    parts = read.value.split(asked_BT.sum(1).tolist())
    return [_answer(head, part, asked_BT[row]) for row, part in enumerate(parts)]


def answer_of_windows(windows: Sequence[tuple[Example, HeadAnswer]]) -> HeadAnswer:
    """Return a row's answer from those to its windows: the one of the best span.

    Its places are those of the whole row. There is no answer where no window has one.
    """
    example, best = max(windows, key=lambda window: window[1].margin)
    if best.span is None:
        return best
    first, last = best.span
    return replace(best, span=(first + example.skipped, last + example.skipped))


def _answer(head: Head, logits_PK: Tensor, asked_T: Tensor) -> HeadAnswer:
    match head.kind:
        case "classes":
            return _classes(head, logits_PK[0])
        case "tags":
            return HeadAnswer(tuple(head.labels[index] for index in logits_PK.argmax(1).tolist()))
        case "span":
            return _span(head, logits_PK, asked_T.nonzero()[:, 0].tolist())
        case _:
            assert_never(head.kind)


def _classes(head: Head, logits_K: Tensor) -> HeadAnswer:
    chances = logits_K.sigmoid() if head.several else logits_K.softmax(0)
    scores = dict(zip(head.labels, chances.tolist(), strict=True))
    if head.several:
        return HeadAnswer(tuple(label for label, chance in scores.items() if chance > 0.5), scores)
    return HeadAnswer((head.labels[int(logits_K.argmax())],), scores)


def _span(head: Head, logits_P2: Tensor, places: Sequence[int]) -> HeadAnswer:
    """Choose the likeliest beginning and end of which the end is not before the beginning.

    Both are the first place where no answer is likelier.
    """
    begin_P, end_P = logits_P2.log_softmax(0).unbind(1)
    both_PP = begin_P[:, None] + end_P[None, :]
    allowed = torch.ones_like(both_PP, dtype=torch.bool).triu().tril(LONGEST_SPAN - 1)
    allowed[0] = False
    best = int(both_PP.masked_fill(~allowed, -torch.inf).argmax())
    first, last = divmod(best, len(places))
    ahead = logits_P2[first, 0] + logits_P2[last, 1]
    margin = float(ahead - logits_P2[0].sum() if head.abstains else ahead)
    if head.abstains and margin <= 0:
        return HeadAnswer(scores={"span": float(both_PP[0, 0].exp())}, margin=margin)
    chance = float(both_PP[first, last].exp())
    return HeadAnswer((), {"span": chance}, (places[first], places[last]), margin)
