"""What holds between the parts of a recipe, each of which is right by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tunesmith.core.errors import Fault
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.peft_method import ROWS, PeftMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.yaml_text import KeyPath

ON_QUANTISED = ("lora", "dora", *(word for word, row in ROWS.items() if row.on_quantised))


def contradictions(recipe: Recipe, locate: Callable[[KeyPath], str]) -> Iterator[Fault]:
    """Yield a fault for each pair of values that cannot go together."""
    base, method = recipe.model.base, recipe.method
    if isinstance(method, PeftMethod):
        yield from _foreign_settings(method, locate)
        if base is not None and not method.row.on_quantised:
            yield Fault(
                found=f"method {method.type} reads the base's weights, and model.base {base} keeps "
                "them quantised",
                where=locate(("model", "base")),
                fix=f"leave model.base out, or use one of {', '.join(ON_QUANTISED)}",
            )
    if base is None and isinstance(method, LoraMethod) and method.init == "loftq":
        yield Fault(
            found="method.init loftq makes up for what quantising takes, and the base is not "
            "quantised",
            where=locate(("method", "init")),
            fix="set model.base: nf4, or leave method.init out",
        )
    if base is not None and isinstance(method, FullMethod):
        yield Fault(
            found=f"method full trains the base's weights, and model.base {base} keeps them frozen",
            where=locate(("model", "base")),
            fix="leave model.base out (training.optimizer: adamw-8bit saves memory, too), or use "
            "method: lora",
        )
    if base is not None and isinstance(method, LoraMethod) and method.init == "pissa":
        yield Fault(
            found=f"method.init pissa starts from the base's own weights, and model.base {base} "
            "rounds them",
            where=locate(("method", "init")),
            fix="use method.init: loftq, which starts from what was rounded away, or leave "
            "model.base out",
        )


def _foreign_settings(method: PeftMethod, locate: Callable[[KeyPath], str]) -> Iterator[Fault]:
    known = [*method.row.takes, *(["targets"] if method.row.has_targets else [])]
    for name in method.foreign:
        yield Fault(
            found=f"method {method.type} has no {name}",
            where=locate(("method", name)),
            fix=f"remove it; {method.type} has {', '.join(known) or 'no settings'}",
        )
