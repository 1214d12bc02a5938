"""Holds what was written beside what it was made from, by logits and by greedy answers.

The source continues a few beginnings by its likeliest token, 32 times. The result then reads these
texts once: where its likeliest tokens are the same ones, its own answers are the same. A head reads
the beginnings, and is compared in what it says of them.

Shapes: B beginnings, T tokens, V vocabulary, S and P places that a head reads, K labels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tunesmith.core.errors import Fault, RunError
from tunesmith.data.tokenizer import Tokenizer, encoder_of
from tunesmith.models.evaluating import evaluating
from tunesmith.models.headed import Head, HeadedModel

BEGINNINGS = (
    "The weather today is",
    "How do I return a pair of shoes that I bought?",
    "def add(first, second):",
    "In the year 1867 a small town",
    "Please write a letter to my friend about",
)
BEGINNING_TOKENS = 8
ANSWER_TOKENS = 32
# The largest difference that rounding explains, relative to the largest logit (at least 1).
TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.05}


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says to the beginnings: the whole texts, and its logits for them."""

    tokens_BT: Tensor
    logits_BTV: Tensor


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two models are from each other on the same tokens."""

    compared_tokens: int
    max_abs_diff: float
    max_abs_logit: float
    tolerance: float
    top1_agreement: float
    same_greedy_tokens: bool | None = None
    """None of a head, which writes nothing."""

    @property
    def is_within(self) -> bool:
        """Whether rounding explains the difference."""
        return self.max_abs_diff <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        """The numbers, with the verdict."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return {**known, "is_within_tolerance": self.is_within}


def greedy_answers(model: Any, tokenizer: Tokenizer) -> Answers:
    """Let a model continue the beginnings."""
    tokens_BT = _beginnings(model, tokenizer)
    read, cache = tokens_BT, DynamicCache(config=model.config)
    with evaluating(model):
        for _ in range(_room(model, tokens_BT)):
            logits_BTV = model(input_ids=read, cache=cache, use_cache=True).logits
            read = logits_BTV[:, -1:].argmax(-1)
            tokens_BT = torch.cat([tokens_BT, read], 1)
    return Answers(tokens_BT, logits_of(model, tokens_BT))


def logits_of(model: Any, tokens_BT: Tensor) -> Tensor:
    """The logits of whole texts, in fp32."""
    with evaluating(model):
        return model(input_ids=tokens_BT, use_cache=False).logits.float()


def compare(wanted: Answers, logits_BTV: Tensor, dtype: str) -> Agreement:
    """Hold logits beside the answers that they were computed for."""
    largest = max(float(wanted.logits_BTV.abs().max()), 1.0)
    difference = (logits_BTV - wanted.logits_BTV).abs().max()
    same_BT = logits_BTV.argmax(-1) == wanted.logits_BTV.argmax(-1)
    answered = logits_BTV[:, BEGINNING_TOKENS - 1 : -1].argmax(-1)
    return Agreement(
        compared_tokens=same_BT.numel(),
        max_abs_diff=float(difference),
        max_abs_logit=largest,
        tolerance=TOLERANCE[dtype] * largest,
        top1_agreement=float(same_BT.float().mean()),
        same_greedy_tokens=bool((answered == wanted.tokens_BT[:, BEGINNING_TOKENS:]).all()),
    )


def head_logits(headed: HeadedModel, tokenizer: Tokenizer) -> Tensor:
    """What a head says to the beginnings, each repeated to 40 tokens: [B, places, K] in fp32."""
    begin_BT = _beginnings(headed.model, tokenizer)
    room = _room(headed.model, begin_BT)
    tokens_BT = begin_BT.repeat(1, 1 + ANSWER_TOKENS // BEGINNING_TOKENS)
    tokens_BT = tokens_BT[:, : BEGINNING_TOKENS + room]
    rows, length = tokens_BT.shape
    asked_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
    if headed.head.kind == "classes":
        asked_BT[:, :-1] = False
    with evaluating(headed.model):
        logits_SK = headed.logits(tokens_BT, torch.full((rows,), length), asked_BT)
    return logits_SK.view(rows, -1, logits_SK.shape[-1])


def compare_heads(head: Head, wanted_BPK: Tensor, logits_BPK: Tensor, dtype: str) -> Agreement:
    """Hold what a head says beside what it should; of a span it says places, else labels."""
    largest = max(float(wanted_BPK.abs().max()), 1.0)
    axis = 1 if head.kind == "span" else -1
    same = logits_BPK.argmax(axis) == wanted_BPK.argmax(axis)
    return Agreement(
        compared_tokens=same.numel(),
        max_abs_diff=float((logits_BPK - wanted_BPK).abs().max()),
        max_abs_logit=largest,
        tolerance=TOLERANCE[dtype] * largest,
        top1_agreement=float(same.float().mean()),
    )


def require_agreement(agreement: Agreement, where: str) -> None:
    """Refuse a result that rounding does not explain.

    Raises:
        RunError: the difference is beyond the tolerance, or no number.
    """
    if agreement.is_within:
        return
    found = (
        f"the result differs from the adapter on its base: logits by {agreement.max_abs_diff:.2g} "
        f"(at most {agreement.tolerance:.2g} is rounding), the likeliest token in "
        f"{1 - agreement.top1_agreement:.1%} of {agreement.compared_tokens} places"
    )
    fix = "nothing was kept; report this with the adapter_config.json and the model's config.json"
    raise RunError(Fault(found=found, where=where, fix=fix), code="merge_differs")


def _beginnings(model: Any, tokenizer: Tokenizer) -> Tensor:
    """Equally long beginnings, so that nothing is padded."""
    vocabulary = model.get_input_embeddings().num_embeddings
    rows = [encoder_of(tokenizer).ids(text) for text in BEGINNINGS]
    filled = [(row or [0]) * BEGINNING_TOKENS for row in rows]
    return torch.tensor([row[:BEGINNING_TOKENS] for row in filled]) % vocabulary


def _room(model: Any, tokens_BT: Tensor) -> int:
    limit = getattr(model.config, "max_position_embeddings", None)
    return ANSWER_TOKENS if limit is None else min(ANSWER_TOKENS, limit - tokens_BT.shape[1])
