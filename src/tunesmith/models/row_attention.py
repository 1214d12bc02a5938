"""Causal attention over rows that lie one after another, without padding between them.

The line is cut into tiles of 128 queries. A tile sees the keys from the start of its first query's
row to its own end, under a mask that knows the rows; so the upper triangle is hardly computed, and
short rows share a tile. All rows may share a prefix, which is computed once:

    tokens   P P P a a a a b b b c c c c c c c . .     P: shared prefix, then rows a, b, c, filling
    tile 1   queries PPPaaaab                          keys PPPaaaab
    tile 2   queries bbcccccc   keys PPP bbbcccccc     (a tile of 8, here)

Lengths are rounded (64 queries, 32 keys): the matrix library compiles a kernel for every new shape
and keeps 1,024 of them, so free lengths would cost it a tenth of the time and a gigabyte.

On a CPU this is two to three times as fast, forward and backward, as
torch.nn.functional.scaled_dot_product_attention on rows of 100 to 500 tokens
(benchmarks/attention.py).

Shapes: N tokens, H query heads, K key-value heads, G = H / K, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

QUERIES_PER_TILE = 128
LINE_MULTIPLE = 64
KEY_MULTIPLE = 32
# Probabilities of tiles up to this many keys are kept for the backward pass (320 keys x 9 heads x
# 2 bytes = 5.8 kB a token and layer at most); wider ones are computed again, so that memory grows
# with the length of a row and not with its square.
KEPT_KEYS = 320


@dataclass(frozen=True, eq=False)
class Tile:
    """Queries [query_start, query_end) see the prefix and keys [key_start, query_end)."""

    query_start: int
    query_end: int
    key_start: int
    mask_QK: Tensor  # additive: 0 where seen, -inf where not; G equal lines a query


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Where the rows lie: `prefix` shared tokens first, then each row's own, then the filling."""

    prefix: int
    length: int  # of the whole line, filling included
    tiles: tuple[Tile, ...]

    def to(self, device: torch.device) -> RowLayout:
        """Return it with its masks on a device."""
        tiles = tuple(replace(tile, mask_QK=tile.mask_QK.to(device)) for tile in self.tiles)
        return replace(self, tiles=tiles)

    def attend(
        self, query_NHD: Tensor, key_NKD: Tensor, value_NKD: Tensor, *, scale: float
    ) -> Tensor:
        """Softmax attention of each row over itself and the shared prefix; returns [N, H, D]."""
        groups = query_NHD.shape[1] // key_NKD.shape[1]
        output_KNGD: Tensor = _uncompiled(
            query_NHD.unflatten(1, (-1, groups)).transpose(0, 1).contiguous(),
            key_NKD.transpose(0, 1).contiguous(),
            value_NKD.transpose(0, 1).contiguous(),
            self,
            scale=scale,
        )
        return output_KNGD.transpose(0, 1).flatten(1, 2)


@dataclass(frozen=True, eq=False)
class Tree:
    """Rows of which each position lies at one place of a line, several rows' at the same one.

    `places_BT` says where the positions of each row lie; `rows_N` names one row that has a place,
    and `positions_N` its position there.
    """

    places_BT: Tensor
    rows_N: Tensor
    positions_N: Tensor


def lay_out(
    lengths: Sequence[int],
    *,
    prefix: int,
    groups: int,
    dtype: torch.dtype,
    window: int | None = None,
) -> RowLayout:
    """Cut rows of `lengths` own tokens behind `prefix` shared ones into tiles.

    With a `window` a token sees itself and the `window - 1` before it.
    """
    used = prefix + sum(lengths)
    length = whole_length(used)
    sizes = torch.tensor([prefix, *lengths, length - used])
    row_N = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    starts = torch.cumsum(sizes, 0) - sizes
    offsets = starts.clone()
    offsets[1:] -= prefix
    positions = torch.arange(length) - offsets[row_N]
    tiles: list[Tile] = []
    for first, last in _tile_borders(length):
        own = max(int(starts[row_N[first]]), 0 if window is None else first - window + 1)
        key_start, keys = _keys(own, last, prefix)
        queries = torch.arange(first, last)[:, None]
        same_row = (row_N[keys][None, :] == row_N[first:last][:, None]) | (keys < prefix)[None, :]
        seen = same_row & (keys[None, :] <= queries)
        if window is not None:
            seen &= positions[keys][None, :] > positions[first:last][:, None] - window
        tiles.append(_tile(first, last, key_start, seen, groups, dtype))
    return RowLayout(prefix=prefix, length=length, tiles=tuple(tiles))


def lay_out_tree(
    tree: Tree, *, prefix: int, groups: int, dtype: torch.dtype, window: int | None = None
) -> RowLayout:
    """Cut a tree into tiles; the first `prefix` places of the line are those of every row."""
    used, most = len(tree.rows_N), tree.places_BT.shape[1]
    length = whole_length(used)
    tiles: list[Tile] = []
    for first, last in _tile_borders(length):
        places_QT = tree.places_BT[tree.rows_N[first:last]]
        positions_1T, own_Q1 = torch.arange(most)[None, :], tree.positions_N[first:last, None]
        is_seen_QT = positions_1T <= own_Q1
        if window is not None:
            is_seen_QT &= positions_1T > own_Q1 - window
        key_start, keys = _keys(int(places_QT[0, min(prefix, most - 1)]), last, prefix)
        # Each sees itself, which is all that the filling sees; column `last` is for what is unseen.
        seen = torch.eye(last - first, last + 1, dtype=torch.bool).roll(first, dims=1)
        seen[: len(places_QT)].scatter_(1, places_QT.where(is_seen_QT, last), True)
        tiles.append(_tile(first, last, key_start, seen[:, keys], groups, dtype))
    return RowLayout(prefix=prefix, length=length, tiles=tuple(tiles))


def whole_length(used: int) -> int:
    """How long a line of so many tokens is with its filling."""
    return -(-used // LINE_MULTIPLE) * LINE_MULTIPLE


def _tile_borders(length: int) -> list[tuple[int, int]]:
    firsts = range(0, length, QUERIES_PER_TILE)
    return [(first, min(first + QUERIES_PER_TILE, length)) for first in firsts]


def _keys(first: int, last: int, prefix: int) -> tuple[int, Tensor]:
    """Return where a tile's own keys start, and all its keys: the prefix and those."""
    key_start = first // KEY_MULTIPLE * KEY_MULTIPLE
    key_start = 0 if key_start <= prefix else key_start
    own = torch.arange(key_start, last)
    return key_start, torch.cat([torch.arange(min(prefix, key_start)), own])


def _tile(
    first: int, last: int, key_start: int, seen_QK: Tensor, groups: int, dtype: torch.dtype
) -> Tile:
    mask = torch.zeros(seen_QK.shape, dtype=dtype).masked_fill_(~seen_QK, float("-inf"))
    return Tile(first, last, key_start, mask.repeat_interleave(groups, dim=0)[None])


def row_attention(
    query_KNGD: Tensor, key_KND: Tensor, value_KND: Tensor, layout: RowLayout, *, scale: float
) -> Tensor:
    """Softmax attention of each row over itself and the shared prefix; returns [K, N, G, D]."""
    output = _RowAttention.apply(query_KNGD, key_KND, value_KND, layout, scale)
    assert isinstance(output, Tensor)
    return output


# Its pieces are cut as the rows lie: a compiler would start again for every micro-batch.
_uncompiled: Any = torch.compiler.disable(row_attention)


class _RowAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: RowLayout, scale: float
    ) -> Tensor:
        output = torch.empty_like(query)
        kept: list[Tensor | None] = []
        for tile in layout.tiles:
            probabilities = _probabilities(query, key, tile, layout.prefix, scale)
            _flat(output, tile).copy_(torch.bmm(probabilities, _seen(value, tile, layout.prefix)))
            kept.append(probabilities if probabilities.shape[2] <= KEPT_KEYS else None)
        # All of it by this way, and nothing on ctx itself: a layer that is computed again in the
        # backward pass lets go of what was saved here, and of nothing else.
        ctx.save_for_backward(query, key, value, *kept)
        ctx.layout, ctx.scale = layout, scale
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *all_kept = ctx.saved_tensors
        layout: RowLayout = ctx.layout
        grad_output = gradients[0]
        grad_query = torch.empty_like(query)
        # fp32: every row adds to the shared prefix's keys and values
        grad_key = torch.zeros_like(key, dtype=torch.float32)
        grad_value = torch.zeros_like(value, dtype=torch.float32)
        for tile, kept in zip(layout.tiles, all_kept, strict=True):
            probabilities = (
                _probabilities(query, key, tile, layout.prefix, ctx.scale) if kept is None else kept
            )
            grad_out = _flat(grad_output, tile)
            _add(grad_value, torch.bmm(probabilities.mT, grad_out), tile, layout.prefix)
            grad_probabilities = torch.bmm(grad_out, _seen(value, tile, layout.prefix).mT)
            grad_scores = torch.ops.aten._softmax_backward_data(
                grad_probabilities, probabilities, -1, probabilities.dtype
            ).mul_(ctx.scale)
            _flat(grad_query, tile).copy_(torch.bmm(grad_scores, _seen(key, tile, layout.prefix)))
            _add(grad_key, torch.bmm(grad_scores.mT, _flat(query, tile)), tile, layout.prefix)
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None


def _probabilities(query: Tensor, key: Tensor, tile: Tile, prefix: int, scale: float) -> Tensor:
    keys = _seen(key, tile, prefix)
    scores = torch.baddbmm(tile.mask_QK, _flat(query, tile), keys.mT, alpha=scale)
    return torch.softmax(scores, dim=-1)


def _flat(tensor_KNGD: Tensor, tile: Tile) -> Tensor:
    """The tile's queries as [K, queries x G, D], a view."""
    return tensor_KNGD[:, tile.query_start : tile.query_end].flatten(1, 2)


def _seen(tensor_KND: Tensor, tile: Tile, prefix: int) -> Tensor:
    own = tensor_KND[:, tile.key_start : tile.query_end]
    if not prefix or not tile.key_start:
        return own
    return torch.cat([tensor_KND[:, :prefix], own], dim=1)


def _add(target_KND: Tensor, gradient_KSD: Tensor, tile: Tile, prefix: int) -> None:
    own = target_KND[:, tile.key_start : tile.query_end]
    if not prefix or not tile.key_start:
        own.add_(gradient_KSD)
        return
    target_KND[:, :prefix].add_(gradient_KSD[:, :prefix])
    own.add_(gradient_KSD[:, prefix:])
