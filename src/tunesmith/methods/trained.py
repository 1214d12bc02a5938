"""What a method trains, by kind of module: for the plan, and for people to see before the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.module_names import short_names

# What an adapter's or a module's own parameters are called behind the module's path:
# `lora_A.weight` and, of PEFT's methods (the prefixes of its tuners), `ia3_l` or `hada_w1_a`.
_ADAPTERS = (
    "adamss|beft|boft|c3a|deft|delora|fourierft|frod|glora|gralora|hada|hira|hra|ia3|lily|"
    "ln_tuning|lokr|lora|miss|oft|osf|peanut|poly|psoft|pvera_lambda|randlora|road|shadow|shira|"
    "supertuning|tinylora|trainable_tokens|unilora|vblora|vera_lambda|waveft"
)
_OWN = re.compile(rf"\.(?:(?:{_ADAPTERS})_\w+(?:\.\w+)*|weight|bias)$")


@dataclass(frozen=True, kw_only=True)
class TrainedKind:
    """`modules` of one kind, in which `values` numbers are trained."""

    name: str
    modules: int
    values: int


def trained_kinds(method: AppliedMethod) -> list[TrainedKind]:
    """Return the kinds of modules that are trained, in the model's order; the values add up."""
    values: dict[str, int] = {}
    for name, parameter in method.trainable.items():
        path = _OWN.sub("", name)
        values[path] = values.get(path, 0) + parameter.numel()
    kinds: dict[str, TrainedKind] = {}
    for path, name in short_names(values).items():
        known = kinds.get(name, TrainedKind(name=name, modules=0, values=0))
        kinds[name] = TrainedKind(
            name=name, modules=known.modules + 1, values=known.values + values[path]
        )
    return list(kinds.values())


def describe_trained(method: AppliedMethod, model: nn.Module) -> str:
    """Say which modules are trained, and which would be expected to be and are not."""
    kinds = ", ".join(
        f"{kind.modules} x {kind.name} ({kind.values:,})" for kind in trained_kinds(method)
    )
    experts = _frozen_experts(dict(model.named_parameters()))
    left = f"; {experts} values in experts stay as they are" if experts else ""
    return f"trained: {kinds}{left}"


def _frozen_experts(parameters: Mapping[str, nn.Parameter]) -> str:
    count = sum(
        parameter.numel()
        for name, parameter in parameters.items()
        if parameter.ndim == 3 and "experts" in name.split(".") and not parameter.requires_grad
    )
    return f"{count:,}" if count else ""
