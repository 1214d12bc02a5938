"""The one loss: cross-entropy summed over supervised tokens, with the sum of their weights.

Logits exist only at supervised positions and only a chunk at a time: with a vocabulary of 49,152,
the logits of 2,048 positions would be 400 MB in fp32, a chunk of 128 is 25 MB and stays in a CPU's
cache. The gradient with respect to the hidden states is made in the same pass, so no chunk is
computed twice. Sums only: whoever divides, divides once, by the weight of the whole step.

Shapes: S supervised positions, C hidden width, V vocabulary, R rank of an adapter on the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tunesmith.data.collate import Batch
from tunesmith.methods.lora import LoraLinear, factors_of
from tunesmith.models.facts import ModelFacts
from tunesmith.models.hidden_states import hidden_states
from tunesmith.models.linear import bias_of, weight_of
from tunesmith.models.load import backbone, output_head

LOGIT_CHUNK_BYTES = 32 * 2**20
LOGIT_CHUNK_BYTES_ON_GPU = 256 * 2**20  # enough rows to keep it busy
# Positions are filled up with weight 0, as the line is (models/row_attention.py): few shapes.
POSITION_MULTIPLE = 32


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """What the loss needs of a model: its decoder, its head, and what is done to the logits.

    Logits are softcap * tanh(z / softcap) with z = scale * head(hidden) (Gemma 2 has the soft cap,
    Cohere and Granite a scale); without a soft cap they are z.
    """

    decoder: nn.Module
    head: nn.Linear | LoraLinear
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    share_prefix: bool = True
    recompute: bool = False


def language_model(
    model: nn.Module, facts: ModelFacts, *, share_prefix: bool = True, recompute: bool = False
) -> LanguageModel:
    """Find decoder and head of a loaded model; `recompute`: layers twice instead of kept."""
    return LanguageModel(
        decoder=backbone(model),
        head=_head(model),
        logit_scale=facts.logit_scale,
        logit_softcap=facts.logit_softcap,
        share_prefix=share_prefix,
        recompute=recompute,
    )


def _head(model: nn.Module) -> nn.Linear | LoraLinear:
    owner: Any = model
    head = owner.get_output_embeddings()
    return head if isinstance(head, LoraLinear) else output_head(model)


@dataclass(frozen=True, eq=False)
class SummedLoss:
    """`total` is a scalar tensor that can go backward; `correct` counts right greedy guesses."""

    total: Tensor
    weight: float
    tokens: int
    correct: int


def summed_loss(model: LanguageModel, batch: Batch) -> SummedLoss:
    """Sum weight * -log p(target) over the batch's supervised positions, in nats."""
    if not (batch.weights_BT > 0).any():
        zero = torch.zeros((), requires_grad=torch.is_grad_enabled())
        return SummedLoss(total=zero, weight=0.0, tokens=0, correct=0)
    found = supervised_states(model, batch)
    total, correct = cross_entropy(model, found.hidden_SC, found.targets_S, found.weights_S)
    return SummedLoss(
        total=total,
        weight=float(found.weights_S.sum()),
        tokens=len(found.targets_S),
        correct=correct,
    )


@dataclass(frozen=True, eq=False)
class Supervised:
    """The supervised positions of a batch, row by row; `rows_S` says which row each is of.

    They are on the model's device, `rows_S` in the host's memory.
    """

    hidden_SC: Tensor
    targets_S: Tensor
    weights_S: Tensor
    rows_S: Tensor


def supervised_states(model: LanguageModel, batch: Batch, *, as_tree: bool = False) -> Supervised:
    """Run the decoder and keep what is supervised; `as_tree` as in models/hidden_states.py."""
    asked_BT = batch.weights_BT > 0
    hidden_SC = hidden_states(
        model.decoder,
        batch.tokens_BT,
        batch.lengths_B,
        asked_BT,
        share_prefix=model.share_prefix,
        recompute=model.recompute,
        as_tree=as_tree,
    )
    return Supervised(
        hidden_SC=hidden_SC,
        targets_S=batch.targets_BT[asked_BT].to(hidden_SC.device),
        weights_S=batch.weights_BT[asked_BT].to(hidden_SC.device),
        rows_S=asked_BT.nonzero()[:, 0],
    )


@torch.no_grad()
def log_probs(model: LanguageModel, hidden_SC: Tensor, targets_S: Tensor) -> Tensor:
    """Return [S]: log p of each target, without gradient, a chunk of logits at a time."""
    head = _matrices(model, hidden_SC)
    found_S = hidden_SC.new_empty(len(targets_S), dtype=torch.float32)
    for chunk in _chunks(len(targets_S), vocabulary=len(head.weight_VC), on_gpu=hidden_SC.is_cuda):
        logits = _logits(head.raw(hidden_SC, chunk), model)
        targets = targets_S[chunk, None]
        found_S[chunk] = logits.gather(-1, targets)[:, 0] - logits.logsumexp(-1)
    return found_S


@dataclass(frozen=True, eq=False)
class _Head:
    """The head's matrices: hidden W^T + bias, and with an adapter on it, + low up^T."""

    weight_VC: Tensor
    bias_V: Tensor | None
    low_SR: Tensor | None = None
    up_VR: Tensor | None = None

    def raw(self, hidden_SC: Tensor, chunk: slice) -> Tensor:
        """The logits of a chunk of positions in fp32, before scale and cap."""
        logits = F.linear(hidden_SC[chunk], self.weight_VC, self.bias_V)
        if self.low_SR is not None and self.up_VR is not None:
            logits.addmm_(self.low_SR[chunk], self.up_VR.T)
        return logits.float()


def _matrices(model: LanguageModel, hidden_SC: Tensor) -> _Head:
    """Apply A of an adapter on the head: its B is as wide as the vocabulary, so it is chunked."""
    head = model.head
    if not isinstance(head, LoraLinear):
        return _Head(head.weight, head.bias)
    weight, bias = weight_of(head.base), bias_of(head.base)
    if not head.active:
        return _Head(weight, bias)
    a, b = factors_of(head)
    # The loop sets the mode of the decoder alone.
    inputs_SC = F.dropout(hidden_SC, head.dropout, model.decoder.training)
    low_SR = F.linear(inputs_SC, a.to(hidden_SC.dtype))
    return _Head(weight, bias, low_SR, (b * head.scale).to(hidden_SC.dtype))


def cross_entropy(
    model: LanguageModel, hidden_SC: Tensor, targets_S: Tensor, weights_S: Tensor
) -> tuple[Tensor, int]:
    """Return the weighted sum, and how many targets have the highest logit (0 in training)."""
    filling = -len(targets_S) % POSITION_MULTIPLE
    hidden_SC = F.pad(hidden_SC, (0, 0, 0, filling))
    targets_S, weights_S = F.pad(targets_S, (0, filling)), F.pad(weights_S, (0, filling))
    head = _matrices(model, hidden_SC)
    counts = not torch.is_grad_enabled()  # a pass over all logits that a training step can spare
    total, correct = _ChunkedCrossEntropy.apply(  # pyright: ignore[reportGeneralTypeIssues]
        hidden_SC,
        head.weight_VC,
        head.bias_V,
        head.low_SR,
        head.up_VR,
        targets_S,
        weights_S,
        model,
        counts,
    )
    return total, int(correct)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Makes the gradients of the unscaled sum during forward; backward multiplies them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        low: Tensor | None,
        up: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        model: LanguageModel,
        counts: bool,
    ) -> tuple[Tensor, Tensor]:
        needs_hidden, needs_weight, needs_bias, needs_low, needs_up = ctx.needs_input_grad[:5]
        head = _Head(weight, bias, low, up)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        grad_bias = (
            torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs_bias else None
        )
        grad_low = torch.empty_like(low) if low is not None and needs_low else None
        grad_up = torch.zeros_like(up, dtype=torch.float32) if up is not None and needs_up else None
        total = hidden.new_zeros((), dtype=torch.float64)
        correct = hidden.new_zeros((), dtype=torch.int64)
        for chunk in _chunks(len(hidden), vocabulary=len(weight), on_gpu=hidden.is_cuda):
            logits = _logits(head.raw(hidden, chunk), model)
            target = targets[chunk, None]
            if counts:
                right = logits.argmax(-1, keepdim=True) == target
                correct += (right & (weights[chunk, None] > 0)).sum()
            loss, grad = _loss_and_gradient(logits, target, weights[chunk, None], model)
            total += loss
            if not any(ctx.needs_input_grad):
                continue
            rounded = grad.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(rounded, weight, out=grad_hidden[chunk])
            if grad_weight is not None:
                grad_weight.add_(rounded.T @ hidden[chunk])
            if grad_low is not None and up is not None:
                torch.mm(rounded, up, out=grad_low[chunk])
            if grad_up is not None and low is not None:
                grad_up.add_(rounded.T @ low[chunk])
            if grad_bias is not None:
                grad_bias.add_(grad.sum(0))
        ctx.gradients = (grad_hidden, grad_weight, grad_bias, grad_low, grad_up)
        ctx.dtypes = (hidden.dtype, weight.dtype, weight.dtype, hidden.dtype, hidden.dtype)
        ctx.mark_non_differentiable(correct)
        return total.float(), correct

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if gradient is None else gradient.mul_(gradients[0]).to(dtype)
            for gradient, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None)


def logit_chunk_bytes(*, on_gpu: bool) -> int:
    """How large the logits of a chunk may be, in fp32."""
    return LOGIT_CHUNK_BYTES_ON_GPU if on_gpu else LOGIT_CHUNK_BYTES


def _chunks(num_positions: int, *, vocabulary: int, on_gpu: bool) -> Iterator[slice]:
    size = logit_chunk_bytes(on_gpu=on_gpu) // (4 * vocabulary)
    size = max(1, size // POSITION_MULTIPLE) * POSITION_MULTIPLE
    for first in range(0, num_positions, size):
        yield slice(first, first + size)


def _logits(raw: Tensor, model: LanguageModel) -> Tensor:
    """Scale and cap the head's output, in place."""
    if model.logit_scale != 1.0:
        raw.mul_(model.logit_scale)
    if model.logit_softcap is not None:
        raw.div_(model.logit_softcap).tanh_().mul_(model.logit_softcap)
    return raw


def _loss_and_gradient(
    logits: Tensor, target: Tensor, weights: Tensor, model: LanguageModel
) -> tuple[Tensor, Tensor]:
    """Return the chunk's weighted sum and its gradient by the head's raw output.

    The gradient takes the logits' place: weight * (softmax - one at the target), times the slope
    of the cap, 1 - (logit / softcap)^2, and the scale.
    """
    slope = None
    if model.logit_softcap is not None:
        slope = 1 - (logits / model.logit_softcap).square_()
    shifted = logits.sub_(logits.amax(-1, keepdim=True))
    target_logit = shifted.gather(-1, target)
    exponentials = shifted.exp_()
    normalizer = exponentials.sum(-1, keepdim=True)
    loss = ((normalizer.log() - target_logit) * weights).double().sum()
    gradient = exponentials.mul_(weights * model.logit_scale / normalizer)
    gradient.scatter_add_(-1, target, -weights * model.logit_scale)
    if slope is not None:
        gradient.mul_(slope)
    return loss, gradient
