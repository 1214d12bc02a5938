"""Attention of rows in one line against torch's scaled_dot_product_attention, on the CPU.

    python benchmarks/attention.py [THREADS]

Prints milliseconds, forward and backward, for 2,000 tokens in bf16 with 9 query and 3 key-value
heads of width 64, in rows of several lengths; the least of 8 repeats.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from tunesmith.core.allocator import keep_freed_memory
from tunesmith.models.row_attention import lay_out, row_attention

TOKENS, HEADS, KEY_HEADS, WIDTH = 2000, 9, 3, 64


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    keep_freed_memory()
    for length in (50, 100, 200, 500, 1000):
        rows = TOKENS // length
        ours, torchs = milliseconds(tiled(rows, length)), milliseconds(padded(rows, length))
        print(f"{rows:3} rows of {length:4}: tiles {ours:6.1f}  torch {torchs:6.1f}")


def tiled(rows: int, length: int) -> Callable[[], object]:
    layout = lay_out([length] * rows, prefix=0, groups=HEADS // KEY_HEADS, dtype=torch.bfloat16)
    query = random(KEY_HEADS, layout.length, HEADS // KEY_HEADS, WIDTH)
    key, value = (random(KEY_HEADS, layout.length, WIDTH) for _ in range(2))
    gradient = torch.randn_like(query)

    def once() -> object:
        output = row_attention(query, key, value, layout, scale=WIDTH**-0.5)
        return torch.autograd.grad(output, (query, key, value), gradient)

    return once


def padded(rows: int, length: int) -> Callable[[], object]:
    query = random(rows, HEADS, length, WIDTH)
    key, value = (random(rows, KEY_HEADS, length, WIDTH) for _ in range(2))
    gradient = torch.randn_like(query)

    def once() -> object:
        repeated = (tensor.repeat_interleave(HEADS // KEY_HEADS, 1) for tensor in (key, value))
        output = F.scaled_dot_product_attention(query, *repeated, is_causal=True)
        return torch.autograd.grad(output, (query, key, value), gradient)

    return once


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(torch.bfloat16).requires_grad_()


def milliseconds(once: Callable[[], object]) -> float:
    times: list[float] = []
    for _ in range(8):
        start = time.perf_counter()
        once()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


if __name__ == "__main__":
    main()
