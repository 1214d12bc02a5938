r"""Where the factors of a low-rank adapter start.

default   A uniform, B zero (Hu et al., 2021): nothing changes at step 0
pissa     the principal part of W, B A = U_r S_r V_r^T / scale (Meng et al., 2024). The paper trains
          it beside what is left of W; here W stays whole and the start is subtracted,
          y = x (W + scale (B A - B0 A0))^T, which is the same function: nothing changes at step 0,
          and W is there wherever the adapter is switched off
loftq     the principal part of what quantising took from W, B A = svd_r(W - q(W)) / scale (Li et
          al., 2023, with one iteration): the quantised model starts nearer to the original

Shapes: R rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tunesmith.models.linear import in_features, out_features

# The randomised decomposition (Halko et al., 2011) of a rank is found from a little more of them.
SVD_OVERSAMPLING = 16
SVD_ITERATIONS = 4


@dataclass(frozen=True, eq=False)
class Factors:
    """A [R, in] and B [out, R] in fp32; `is_subtracted`: their product counts from the start."""

    a: Tensor
    b: Tensor
    is_subtracted: bool = False

    @property
    def changes_weight(self) -> bool:
        """Whether the layer computes with another weight than the base's from the start."""
        return not self.is_subtracted and bool(self.b.any())


def default_start(base: nn.Module, rank: int, generator: torch.Generator) -> Factors:
    """Return A, random, and B, zero, for a linear layer."""
    width = in_features(base)
    bound = 1 / math.sqrt(width)  # Kaiming uniform with a = sqrt(5), as PEFT starts
    a = torch.empty(rank, width).uniform_(-bound, bound, generator=generator)
    return Factors(a=a, b=torch.zeros(out_features(base), rank))


def principal_start(
    matrix: Tensor, rank: int, scale: float, generator: torch.Generator, *, is_subtracted: bool
) -> Factors:
    """Return factors with scale B A = the best approximation of `matrix` by this rank.

    A rank above the matrix's own leaves the rest of the factors zero.
    """
    parts = _principal_part(matrix.detach().float(), rank, generator)
    root_R = (parts.strengths_R / scale).sqrt()
    a, b = root_R[:, None] * parts.right_RI, parts.left_OR * root_R
    missing = rank - len(root_R)
    if missing:
        a = torch.cat([a, a.new_zeros(missing, a.shape[1])])
        b = torch.cat([b, b.new_zeros(b.shape[0], missing)], 1)
    return Factors(a=a.contiguous(), b=b.contiguous(), is_subtracted=is_subtracted)


class _Decomposed(NamedTuple):
    left_OR: Tensor
    strengths_R: Tensor
    right_RI: Tensor


def _principal_part(matrix: Tensor, rank: int, generator: torch.Generator) -> _Decomposed:
    """Return the first singular triplets: whole for small matrices, else by random projection."""
    smallest = min(matrix.shape)
    width = rank + SVD_OVERSAMPLING
    if width * 2 >= smallest:
        left, strengths, right = torch.linalg.svd(matrix, full_matrices=False)
        return _Decomposed(left[:, :rank], strengths[:rank], right[:rank])
    drawn = torch.randn(matrix.shape[1], width, generator=generator).to(matrix.device)
    basis = torch.linalg.qr(matrix @ drawn)[0]
    for _ in range(SVD_ITERATIONS):
        basis = torch.linalg.qr(matrix.T @ basis)[0]
        basis = torch.linalg.qr(matrix @ basis)[0]
    left, strengths, right = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return _Decomposed((basis @ left)[:, :rank], strengths[:rank], right[:rank])
