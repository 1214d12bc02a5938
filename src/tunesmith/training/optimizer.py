"""AdamW (Loshchilov and Hutter, 2019) over a method's parameters.

Weight decay applies to matrices only, never to norms and biases. On a LoRA factor it pulls the
product towards the base model, not towards zero; the recipe's default is therefore 0.
"""

from __future__ import annotations

import torch
from torch import nn

from tunesmith.recipe.training import TrainingPart


def make_optimizer(
    trainable: dict[str, nn.Parameter], part: TrainingPart, *, learning_rate: float
) -> torch.optim.AdamW:
    """Make the optimizer; the loop sets its rate before every step."""
    matrices = [parameter for parameter in trainable.values() if parameter.ndim >= 2]
    others = [parameter for parameter in trainable.values() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": part.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=learning_rate,
        betas=part.betas,
        eps=part.epsilon,
        fused=True,
    )
