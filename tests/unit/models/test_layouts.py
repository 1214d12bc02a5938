"""Rows in one line, in tiles or by the kernels of a device: each sees what it sees when alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fakes import flash_kernels
from tunesmith.models import flash_attention, packed_llama, row_attention
from tunesmith.models.packed_llama import Layout

QUERY_HEADS, KEY_HEADS, WIDTH, SCALE = 4, 2, 8, 0.3
LENGTHS = [1, 7, 200, 33, 12, 140]


def tiles(lengths: list[int], prefix: int, window: int | None) -> Layout:
    groups = QUERY_HEADS // KEY_HEADS
    return row_attention.lay_out(
        lengths, prefix=prefix, groups=groups, dtype=torch.float32, window=window
    )


def flash(lengths: list[int], prefix: int, window: int | None) -> Layout:
    flash_kernels.provide()
    return flash_attention.lay_out(lengths, prefix=prefix, window=window)


def heads(length: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(length, count, WIDTH) for count in (QUERY_HEADS, KEY_HEADS, KEY_HEADS)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def alone(places: Tensor, query: Tensor, key: Tensor, value: Tensor, window: int | None) -> Tensor:
    """One row's attention, by its definition."""
    query, key, value = query[places], key[places], value[places]
    groups = QUERY_HEADS // KEY_HEADS
    key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    distance = torch.arange(len(places))[:, None] - torch.arange(len(places))[None, :]
    seen = (distance >= 0) & (distance < (window or len(places)))
    scores = torch.einsum("qhd,khd->hqk", query, key) * SCALE
    shares = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return torch.einsum("hqk,khd->qhd", shares, value)


@pytest.mark.parametrize("lay_out", [tiles, flash])
@pytest.mark.parametrize("prefix", [0, 17, 90])
@pytest.mark.parametrize("window", [None, 16, 130])
def test_a_row_sees_what_it_sees_alone(
    lay_out: Callable[..., Layout], prefix: int, window: int | None
) -> None:
    layout = lay_out(LENGTHS, prefix, window)
    tensors = heads(layout.length)
    output = layout.attend(*tensors, scale=SCALE)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    expected, start = torch.zeros(()), prefix
    for length in LENGTHS:
        places = torch.cat([torch.arange(prefix), torch.arange(start, start + length)])
        row = alone(places, *tensors, window)
        torch.testing.assert_close(output[places], row, atol=1e-5, rtol=1e-5)
        # the prefix's own outputs are read once
        own = row[prefix if start > prefix else 0 :]
        expected = expected + (own * weights[places][-len(own) :]).sum()
        start += length
    used = prefix + sum(LENGTHS)
    ours = torch.autograd.grad((output * weights)[:used].sum(), tensors)
    theirs = torch.autograd.grad(expected, tensors)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_prefix_is_added_up_in_fp32() -> None:
    """In 16 bits a thousandth row's part of the gradient would be lost beside the sum."""
    layout = flash_attention.lay_out([1] * 1000, prefix=1)
    value = torch.ones(layout.length, KEY_HEADS, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    laid = layout._before_each_row(value)
    laid.sum().backward()
    assert value.grad is not None
    assert float(value.grad[0, 0, 0]) == pytest.approx(1001, rel=0.01)


@pytest.mark.parametrize("window", [None, 5])
def test_a_tree_with_a_window_sees_what_rows_see(window: int | None) -> None:
    from tunesmith.models.hidden_states import line_up, line_up_tree

    tokens = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 9, 12, 13], [5, 6, 7, 3, 4, 2, 0]])
    lengths = torch.tensor([7, 7, 6])
    asked = torch.zeros_like(tokens, dtype=torch.bool)
    asked[:, 5] = True
    settings: Any = {"groups": 2, "dtype": torch.float32, "window": window}
    rows = line_up(
        tokens,
        lengths,
        asked,
        prefix=0,
        lay_out=lambda own, *, prefix: row_attention.lay_out(own, prefix=prefix, **settings),
    )
    tree = line_up_tree(
        tokens,
        asked,
        lay_out=lambda tree, *, prefix: row_attention.lay_out_tree(tree, prefix=prefix, **settings),
    )
    outputs: list[Tensor] = []
    for line in (rows, tree):
        # values that follow from token and position alone, as in a first layer
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(16, 8, QUERY_HEADS, WIDTH, generator=generator)
        states = table[line.tokens_N, line.positions_N]
        keys = states[:, :KEY_HEADS]
        outputs.append(line.layout.attend(states, keys, keys, scale=SCALE)[line.asked_S])
    torch.testing.assert_close(outputs[0], outputs[1])


def test_a_compiled_layer_sees_the_plain_steps_and_gives_their_numbers() -> None:
    states = torch.randn(6, 3, 8, generator=torch.Generator().manual_seed(0))
    angles = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).repeat(1, 2)
    for width in (8, 4):
        cos, sin = angles[:, :width].cos(), angles[:, :width].sin()
        ours = packed_llama.rotate(states, cos, sin)
        torch.testing.assert_close(ours, packed_llama._rotated_plainly(states, cos, sin))
