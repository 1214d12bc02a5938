"""Causal attention over rows that lie one after another, by the flash kernels of a CUDA device.

The kernels (Dao, 2023, https://arxiv.org/abs/2307.08691) take rows of different lengths in one
line, and queries that are the last of their keys. So a prefix that all rows share is computed once:
its keys and values are laid before those of each row.

    queries  P P P | a a a a | b b b | . .
    keys     P P P | P P P a a a a | P P P b b b | . .        P: shared prefix, a, b rows, . filling

What they compute is what models/row_attention.py computes, to the rounding of 16 bits. They are
asked for by their own name: torch.nn.attention.varlen, which asks for them, too, takes other
arguments in each version of torch, and may choose kernels that count queries from the first key.

Shapes: N tokens, M keys with the prefix before each row, H query heads, K key-value heads, D head
width, R rows, P tokens of the prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.row_attention import whole_length

OLDEST_CAPABILITY = (8, 0)  # Ampere
WIDEST_HEAD = 256
HEAD_MULTIPLE = 8


def computes(weight: Tensor, head_width: int) -> bool:
    """Whether the kernels can compute a model with such weights."""
    return (
        weight.is_cuda
        and take(weight.dtype.itemsize, head_width)
        and torch.cuda.get_device_capability(weight.device) >= OLDEST_CAPABILITY
    )


def take(dtype_bytes: int, head_width: int) -> bool:
    """Whether the kernels know heads of such a width in such a dtype."""
    return dtype_bytes == 2 and head_width <= WIDEST_HEAD and head_width % HEAD_MULTIPLE == 0


@dataclass(frozen=True, eq=False)
class FlashLayout:
    """Where the rows lie: `prefix` shared tokens first, then each row's own, then the filling."""

    prefix: int
    length: int  # of the whole line, filling included
    query_ends: Tensor  # int32: 0, and where each stretch of the queries ends
    key_ends: Tensor
    most_queries: int
    most_keys: int
    window: int | None
    places_M: Tensor  # of each key in the line
    own_N: Tensor  # where each token's own key is
    prefixes_RP: Tensor  # where the prefix's keys are that lie before the rows

    def to(self, device: torch.device) -> FlashLayout:
        """Return it with its tensors on a device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})

    def attend(
        self, query_NHD: Tensor, key_NKD: Tensor, value_NKD: Tensor, *, scale: float
    ) -> Tensor:
        """Softmax attention of each row over itself and the shared prefix; returns [N, H, D]."""
        found = torch.ops.aten._flash_attention_forward(
            query_NHD.contiguous(),
            self._before_each_row(key_NKD),
            self._before_each_row(value_NKD),
            self.query_ends,
            self.key_ends,
            self.most_queries,
            self.most_keys,
            0.0,  # dropout
            True,  # causal: the last query sees the last key
            False,  # no mask is given back
            scale=scale,
            window_size_left=-1 if self.window is None else self.window - 1,
            window_size_right=0,
        )
        output: Tensor = found[0]
        return output

    def _before_each_row(self, tensor_NKD: Tensor) -> Tensor:
        """Lay the prefix before each row, too: [M, K, D]."""
        if not self.prefix:
            return tensor_NKD.contiguous()
        laid = _Lay.apply(tensor_NKD, self.places_M, self.own_N, self.prefixes_RP)
        assert isinstance(laid, Tensor)
        return laid


class _Lay(torch.autograd.Function):
    """The gradients of the prefix are added up in fp32, in the rows' order."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, places: Tensor, own: Tensor, prefixes: Tensor) -> Tensor:
        ctx.save_for_backward(own, prefixes)
        return tensor[places]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        own, prefixes = ctx.saved_tensors
        gradient = gradients[0][own]
        of_rows = gradients[0][prefixes].sum(0, dtype=torch.float32)
        gradient[: prefixes.shape[1]] += of_rows.to(gradient.dtype)
        return gradient, None, None, None


def lay_out(lengths: Sequence[int], *, prefix: int, window: int | None = None) -> FlashLayout:
    """Lay rows of `lengths` own tokens behind `prefix` shared ones.

    With a `window` a token sees itself and the `window - 1` before it.
    """
    used = prefix + sum(lengths)
    length = whole_length(used)
    own = [size for size in (prefix, *lengths, length - used) if size]
    # every row has a token of its own at least, so that rows and prefixes are as many
    before = [0] * bool(prefix) + [prefix] * len(lengths) + [0] * bool(length - used)
    seen = [ahead + size for ahead, size in zip(before, own, strict=True)]
    query_ends, key_ends = [0, *accumulate(own)], [0, *accumulate(seen)]
    stretches = list(zip(query_ends[:-1], key_ends[:-1], before, own, strict=True))
    ahead_P = torch.arange(prefix)
    places = [
        torch.cat([ahead_P[:ahead], torch.arange(query, query + size)])
        for query, _, ahead, size in stretches
    ]
    own_N = [torch.arange(key + ahead, key + ahead + size) for _, key, ahead, size in stretches]
    prefixes = torch.tensor([key for _, key, ahead, _ in stretches if ahead], dtype=torch.int64)
    return FlashLayout(
        prefix=prefix,
        length=length,
        query_ends=torch.tensor(query_ends, dtype=torch.int32),
        key_ends=torch.tensor(key_ends, dtype=torch.int32),
        most_queries=max(own),
        most_keys=max(seen),
        window=window,
        places_M=torch.cat(places),
        own_N=torch.cat(own_N),
        prefixes_RP=prefixes[:, None] + ahead_P,
    )
