"""AdamW whose two moments are kept in 8 bits, by bitsandbytes.

Blocks of 256 values share a scale (Dettmers et al., 2022, "8-bit optimizers via block-wise
quantization"); parameters below 4,096 values keep fp32 moments, as in the paper. This file and
models/quantise.py are the only ones that import bitsandbytes.
"""

from __future__ import annotations

from typing import Any

import torch


def make_adamw_8bit(
    groups: list[dict[str, Any]],
    *,
    learning_rate: float,
    betas: tuple[float, float],
    epsilon: float,
    paged: bool,
) -> torch.optim.Optimizer:
    """Make it over parameter groups; `paged` lets a CUDA device move the moments to the host."""
    from bitsandbytes.optim.adamw import (  # slow to import, and seldom used
        AdamW8bit,
        PagedAdamW8bit,
    )

    kind: Any = PagedAdamW8bit if paged else AdamW8bit
    return kind(groups, lr=learning_rate, betas=betas, eps=epsilon)
