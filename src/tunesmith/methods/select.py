"""From the recipe's word to the method."""

from __future__ import annotations

from typing import assert_never

from torch import nn

from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.full import apply_full
from tunesmith.methods.lora_method import apply_lora
from tunesmith.recipe.method import FullMethod, LoraMethod


def apply_method(model: nn.Module, part: LoraMethod | FullMethod, *, seed: int) -> AppliedMethod:
    """Apply the method to the model, which is changed in place.

    Raises:
        RecipeError: the method does not fit the model.
    """
    match part:
        case LoraMethod():
            return apply_lora(model, part, seed=seed)
        case FullMethod():
            return apply_full(model)
        case _:
            assert_never(part)
