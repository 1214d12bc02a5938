"""From the recipe's word to the method."""

from __future__ import annotations

from typing import assert_never

from torch import nn

from tunesmith.methods.attach import continue_adapter
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.full import apply_full
from tunesmith.methods.lora_method import OriginalWeight, apply_lora
from tunesmith.recipe.method import FullMethod, LoraMethod, Method
from tunesmith.recipe.peft_method import PeftMethod


def apply_method(
    model: nn.Module,
    part: Method,
    *,
    seed: int,
    original: OriginalWeight | None = None,
    steps: int = 1,
    masters: bool = True,
) -> AppliedMethod:
    """Apply the method to the model, which is changed in place.

    `original` gives a weight as it was before it was quantised, by its module's path; `steps` says
    how long a run will be, which AdaLoRA plans by; without `masters` an engine keeps its own fp32
    copies of 16-bit weights.

    Raises:
        RecipeError: the method does not fit the model.
        ModelError: the adapter to go on from does not fit the model.
    """
    match part:
        case LoraMethod(adapter=str()):
            return continue_adapter(model, part)
        case LoraMethod():
            return apply_lora(model, part, seed=seed, original=original)
        case FullMethod():
            return apply_full(model, masters=masters)
        case PeftMethod():
            # The library takes a second to import, which few runs need.
            from tunesmith.methods.peft_library import apply_peft

            return apply_peft(model, part, seed=seed, steps=steps)
        case _:
            assert_never(part)
