"""The formulas of preference losses, one value a pair or a rated answer.

Shapes: P pairs, R rated answers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Where a whole answer is certain, its odds are infinite: p is held below 1 - 1e-12.
_CERTAIN = -1e-12


def dpo_loss(
    chosen_ratio_P: Tensor, rejected_ratio_P: Tensor, *, beta: float, label_smoothing: float
) -> Tensor:
    """Return [P]: -log sigmoid(beta * (chosen - rejected)) of log p(answer) - log reference.

    Rafailov et al., "Direct Preference Optimization" (2023), equation 7. With `label_smoothing` e
    it is (1 - e) times this and e times the loss of the pair turned round: conservative DPO
    (Mitchell, 2023). Length-normalised DPO has log-ratios that are divided by the answer's tokens.
    """
    logits_P = beta * (chosen_ratio_P - rejected_ratio_P)
    right_P, wrong_P = F.logsigmoid(logits_P), F.logsigmoid(-logits_P)
    return -(1 - label_smoothing) * right_P - label_smoothing * wrong_P


def simpo_loss(
    chosen_mean_P: Tensor, rejected_mean_P: Tensor, *, beta: float, gamma: float
) -> Tensor:
    """Return [P]: -log sigmoid(beta * (chosen - rejected) - gamma) of log p a token.

    Meng et al., "SimPO" (2024), equation 6. It needs no reference.
    """
    return -F.logsigmoid(beta * (chosen_mean_P - rejected_mean_P) - gamma)


def odds_ratio_loss(chosen_mean_P: Tensor, rejected_mean_P: Tensor) -> Tensor:
    """Return [P]: -log sigmoid(log odds(chosen) - log odds(rejected)), odds(p) = p / (1 - p).

    Hong et al., "ORPO" (2024), equations 4 and 7; p is the geometric mean over the answer's tokens.
    """
    return -F.logsigmoid(_log_odds(chosen_mean_P) - _log_odds(rejected_mean_P))


def kto_loss(
    ratio_R: Tensor,
    is_rejected_R: Tensor,
    *,
    z0: float,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """Return [R]: weight * (1 - sigmoid(beta * (ratio - z0))), and of a bad answer z0 - ratio.

    Ethayarajh et al., "KTO" (2024), equation 8, without the constant lambda_y that makes it a value
    to be maximised. `ratio` is log p(answer) - log reference; `z0` is the reference point, an
    estimate of KL(model || reference).
    """
    sign_R = torch.where(is_rejected_R, -1.0, 1.0).to(ratio_R.dtype)
    weight_R = torch.where(is_rejected_R, undesirable_weight, desirable_weight).to(ratio_R.dtype)
    return weight_R * (1 - torch.sigmoid(beta * sign_R * (ratio_R - z0)))


def _log_odds(mean: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of log p; 1 - p by expm1 near 1 and by log1p elsewhere."""
    held = mean.clamp(max=_CERTAIN)
    near_one = held > -math.log(2)
    by_expm1 = torch.log(-torch.expm1(torch.where(near_one, held, -1.0)))
    by_log1p = torch.log1p(-torch.exp(torch.where(near_one, -1.0, held)))
    return held - torch.where(near_one, by_expm1, by_log1p)
