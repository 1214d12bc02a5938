"""The optimizer over a method's parameters: which kind, and which of them decay.

    adamw              Loshchilov and Hutter, 2019; two fp32 moments, 8 bytes a value
    adamw-8bit         the same with moments in 8 bits, 2 bytes a value (optimizer_8bit.py)
    paged-adamw-8bit   the same again, moved to the host where a CUDA device runs full
    adafactor          Shazeer and Stern, 2018; a row and a column of averages a matrix

Weight decay applies to matrices only, never to norms and biases. On a LoRA factor it pulls the
product towards the base model, not towards zero; the recipe's default is therefore 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, assert_never

import torch
from torch import nn

from tunesmith.core.errors import Fault, MachineError
from tunesmith.recipe.training import OptimizerName, TrainingPart

# The key of a group of parameters that says how its rate differs from the step's.
RATE_FACTOR = "rate_factor"


def require_optimizer(name: OptimizerName, device: torch.device) -> None:
    """See to it, before weights are loaded, that this machine can run the optimizer.

    Raises:
        MachineError: it is paged without a CUDA device, or bitsandbytes is not installed.
    """
    where = f"recipe: training.optimizer: {name}"
    if name == "paged-adamw-8bit" and device.type != "cuda":
        fault = Fault(
            found=f"paging moves moments between a CUDA device and the host; this run is on "
            f"{device.type}",
            where=where,
            fix="use optimizer: adamw-8bit, whose moments are as small",
        )
        raise MachineError(fault, code="no_device")
    if name in ("adamw-8bit", "paged-adamw-8bit") and find_spec("bitsandbytes") is None:
        fix = "install bitsandbytes, or use optimizer: adafactor, which needs even less memory"
        raise MachineError(Fault(found="bitsandbytes is not installed", where=where, fix=fix))


def make_optimizer(
    trainable: dict[str, nn.Parameter],
    part: TrainingPart,
    *,
    learning_rate: float,
    rate_factors: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Make the optimizer; the loop sets its rate before every step.

    `rate_factors` says by parameter name where the rate is to differ, and by which factor.
    """
    groups = _groups(trainable, part, rate_factors or {})
    match part.optimizer:
        case "adamw":
            return torch.optim.AdamW(
                groups, lr=learning_rate, betas=part.betas, eps=part.epsilon, fused=True
            )
        case "adamw-8bit" | "paged-adamw-8bit":
            from tunesmith.training.optimizer_8bit import make_adamw_8bit

            return make_adamw_8bit(
                groups,
                learning_rate=learning_rate,
                betas=part.betas,
                epsilon=part.epsilon,
                paged=part.optimizer == "paged-adamw-8bit",
            )
        case "adafactor":
            return _adafactor(groups, learning_rate)
        case _:
            assert_never(part.optimizer)


def head_rate_factors(
    trainable: Iterable[str], head: Sequence[str], part: TrainingPart
) -> dict[str, float]:
    """Return by name by which factor the rate of a head's values differs from the step's.

    `head` are the paths of the modules that are new; `part` has its rates written out.
    """
    if part.head_learning_rate is None or part.learning_rate is None:
        return {}
    factor = part.head_learning_rate / part.learning_rate
    inside = tuple(f"{path}." for path in head)
    return {name: factor for name in trainable if name.startswith(inside)}


def decay_of(trainable: dict[str, nn.Parameter], part: TrainingPart) -> dict[str, Any]:
    """The optimizer, the decay, and how many values decay and how many do not, for the plan."""
    matrices = sum(value.numel() for value in trainable.values() if value.ndim >= 2)
    others = sum(value.numel() for value in trainable.values() if value.ndim < 2)
    return {
        "optimizer": part.optimizer,
        "weight_decay": part.weight_decay,
        "decayed_parameters": matrices if part.weight_decay else 0,
        "undecayed_parameters": others if part.weight_decay else matrices + others,
    }


def _groups(
    trainable: dict[str, nn.Parameter], part: TrainingPart, rate_factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        key = (parameter.ndim >= 2, rate_factors.get(name, 1.0))
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": part.weight_decay if is_matrix else 0.0,
            RATE_FACTOR: factor,
        }
        for (is_matrix, factor), parameters in groups.items()
    ]


def _adafactor(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    # Not torch.optim.Adafactor: it multiplies the rate by each tensor's own size, which for the B
    # factor of an adapter is 0 at the start, and offers no way to leave that out.
    from transformers.optimization import Adafactor

    return Adafactor(
        groups,
        lr=learning_rate,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )
