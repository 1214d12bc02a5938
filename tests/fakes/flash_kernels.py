"""torch's flash kernels for rows of different lengths, as plain products on a CPU, which has none.

They take what the kernels of a CUDA device take, in their order, and mean the same by it: queries
are the last of their keys, a window counts the tokens before one. They stay for the life of the
process; nothing else asks a CPU for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=1)
def provide() -> Any:
    """Have them from now on."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", _forward, "CPU")
    library.impl("_flash_attention_backward", _backward, "CPU")
    return library  # which is what keeps them


@dataclass(frozen=True, eq=False)
class _Rows:
    """What both kernels are given; they compute row by row."""

    query: Tensor
    key: Tensor
    value: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int
    dropout: float
    is_causal: bool
    scale: float
    window: tuple[int, int]

    def stretches(self) -> Iterator[tuple[slice, slice]]:
        """Where a row's queries and its keys are."""
        assert self.query_ends.dtype == self.key_ends.dtype == torch.int32
        assert int(self.query_ends[-1]) == len(self.query)
        assert int(self.key_ends[-1]) == len(self.key) == len(self.value)
        assert all(each.is_contiguous() for each in (self.query, self.key, self.value))
        assert not self.dropout
        queries, keys = (
            [slice(*ends) for ends in pairwise(each.tolist())]
            for each in (self.query_ends, self.key_ends)
        )
        assert self.most_queries == max(each.stop - each.start for each in queries)
        assert self.most_keys == max(each.stop - each.start for each in keys)
        return zip(queries, keys, strict=True)

    def shares(self, queries: slice, keys: slice) -> Tensor:
        """How much of each key's value a query takes: [heads, queries, keys]."""
        query, key = self.query[queries], self.wide(self.key[keys])
        own = torch.arange(len(query))[:, None] + len(key) - len(query)
        other = torch.arange(len(key))[None, :]
        left, right = self.window[0], 0 if self.is_causal else self.window[1]
        seen = torch.ones(len(query), len(key), dtype=torch.bool)
        if right >= 0:
            seen &= other <= own + right
        if left >= 0:
            seen &= other >= own - left
        scores = torch.einsum("qhd,khd->hqk", query, key) * self.scale
        return scores.masked_fill(~seen, float("-inf")).softmax(-1)

    def wide(self, tensor: Tensor) -> Tensor:
        """Each key-value head for each of its query heads."""
        return tensor.repeat_interleave(self.query.shape[1] // tensor.shape[1], dim=1)

    def narrow(self, gradient: Tensor) -> Tensor:
        """The sum over a key-value head's query heads."""
        return gradient.unflatten(1, (self.key.shape[1], -1)).sum(2)


def _rows(tensors: tuple[Tensor, ...], rest: tuple[Any, ...], kwargs: dict[str, Any]) -> _Rows:
    window = (kwargs["window_size_left"], kwargs["window_size_right"])
    return _Rows(*tensors, *rest, scale=kwargs["scale"], window=window)


def _forward(
    query: Tensor, key: Tensor, value: Tensor, *arguments: Any, **kwargs: Any
) -> tuple[Tensor, ...]:
    *rest, return_debug_mask = arguments
    assert not return_debug_mask
    rows = _rows((query, key, value), tuple(rest), kwargs)
    output = torch.cat(
        [
            torch.einsum("hqk,khd->qhd", rows.shares(queries, keys), rows.wide(value[keys]))
            for queries, keys in rows.stretches()
        ]
    )
    logsumexp = query.new_empty(query.shape[1], len(query), dtype=torch.float32)
    state, unused = torch.zeros(2, dtype=torch.uint64), torch.zeros((), dtype=torch.uint64)
    return output, logsumexp, state, unused, query.new_empty(0)


def _backward(
    grad_output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logsumexp: Tensor,
    *arguments: Any,
    **kwargs: Any,
) -> tuple[Tensor, ...]:
    *rest, _state, _unused = arguments
    assert output.shape == query.shape
    assert logsumexp.shape == (query.shape[1], len(query))
    rows = _rows((query, key, value), tuple(rest), kwargs)
    grads = tuple(torch.empty_like(each) for each in (query, key, value))
    for queries, keys in rows.stretches():
        shares, grad = rows.shares(queries, keys), grad_output[queries]
        of_shares = torch.einsum("qhd,khd->hqk", grad, rows.wide(value[keys]))
        inner = (of_shares * shares).sum(-1, keepdim=True)
        of_scores = shares * (of_shares - inner) * rows.scale
        grads[0][queries] = torch.einsum("hqk,khd->qhd", of_scores, rows.wide(key[keys]))
        grads[1][keys] = rows.narrow(torch.einsum("hqk,qhd->khd", of_scores, query[queries]))
        grads[2][keys] = rows.narrow(torch.einsum("hqk,qhd->khd", shares, grad))
    return grads
