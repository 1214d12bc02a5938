"""Losses that are any function of each row's log-probability, with no more memory than plain ones.

The gradient of f(log p(row 1), ..., log p(row B)) is that of a weighted cross-entropy: each token
of row b has the weight -df/dlog p(b). So the head runs twice over the same hidden states, a chunk
at a time: without a gradient to find the log-probabilities, and with those weights. The decoder
runs once.

Shapes: B rows, S supervised positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.render import Example
from tunesmith.models.evaluating import evaluating
from tunesmith.training.loss import (
    LanguageModel,
    Supervised,
    cross_entropy,
    log_probs,
    supervised_states,
)


def row_log_probs(model: LanguageModel, batch: Batch, *, as_tree: bool = False) -> Tensor:
    """Return [B] in fp64, in the host's memory: each row's weighted sum of log p.

    With `as_tree` what rows begin with alike is computed once.
    """
    with torch.no_grad():
        found = supervised_states(model, batch, as_tree=as_tree)
        return _sum_by_row(model, found, len(batch.lengths_B))


def loss_of_rows(model: LanguageModel, batch: Batch, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `loss` of the rows' log-probabilities [B], a scalar that can go backward."""
    found = supervised_states(model, batch)
    log_probs_B = _sum_by_row(model, found, len(batch.lengths_B))
    if not torch.is_grad_enabled():
        return loss(log_probs_B)
    log_probs_B.requires_grad_()
    value = loss(log_probs_B)
    (slope_B,) = torch.autograd.grad(value, log_probs_B)
    slope_S = slope_B[found.rows_S].float().to(found.weights_S.device)
    carrier, _ = cross_entropy(model, found.hidden_SC, found.targets_S, -slope_S * found.weights_S)
    return value.detach().float().to(carrier.device) + (carrier - carrier.detach())


def log_probs_of(
    model: LanguageModel,
    examples: Sequence[Example],
    groups: Iterable[Sequence[int]],
    *,
    pad_id: int,
) -> Tensor:
    """Return each example's log-probability [N] in fp64, without gradient and without dropout.

    The examples of a group are computed together; those that are in no group are NaN.
    """
    result_N = torch.full((len(examples),), torch.nan, dtype=torch.float64)
    with evaluating(model.decoder):
        for group in map(list, groups):
            if not result_N[group].isnan().any():
                continue
            batch = to_batch([examples[index] for index in group], pad_id)
            result_N[group] = row_log_probs(model, batch)
    return result_N


def _sum_by_row(model: LanguageModel, found: Supervised, num_rows: int) -> Tensor:
    log_probs_S = log_probs(model, found.hidden_SC.detach(), found.targets_S)
    summed_B = torch.zeros(num_rows, dtype=torch.float64)
    weighted_S = (log_probs_S.double() * found.weights_S).cpu()
    return summed_B.index_add_(0, found.rows_S, weighted_S)
