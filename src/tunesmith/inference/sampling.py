"""From logits to tokens. A row draws from its own random numbers, whatever stands beside it.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor


class Sampler:
    """Chooses the next token of each row; temperature 0 takes the likeliest.

    A row's number, and not its place, decides with the seed what it draws.
    """

    def __init__(self, *, temperature: float, seed: int, numbers: Sequence[int]) -> None:
        self._temperature = temperature
        self._draws = [random.Random(f"{seed}/{number}") for number in numbers]

    def choose(self, logits_BV: Tensor, rows: Sequence[int]) -> list[int]:
        """The next token of `rows`, whose logits are given in this order."""
        if self._temperature <= 0:
            return (
                logits_BV.float().argmax(dim=-1).tolist()
            )  # argmax in bf16 takes five times as long
        draws_B1 = torch.tensor([[self._draws[row].random()] for row in rows], dtype=torch.float64)
        # Double precision: over 100,000 entries a float's running sum loses the rare tokens.
        logits_BV = logits_BV.double() / self._temperature
        shares_BV = torch.softmax(logits_BV, dim=-1).cumsum(dim=-1)
        targets_B1 = draws_B1.to(shares_BV.device) * shares_BV[:, -1:]
        tokens_B1 = torch.searchsorted(shares_BV, targets_B1, right=True)
        return tokens_B1.clamp_(max=logits_BV.shape[-1] - 1).squeeze(1).tolist()
