"""Words of the field for a method and a base together: what each stands for in a recipe.

`method: qlora` is low-rank adapters on a base of 4 bits, which here are two values of two parts.
The recipe that a run keeps has those values, not the word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tunesmith.core.errors import Fault

Values = dict[str, Any]

# LoRA+ (Hayou et al., 2024) sets the rate of B to 16 times that of A.
LORA_PLUS_FACTOR = 16.0


@dataclass(frozen=True, kw_only=True)
class Word:
    """`method` are the values it sets; `base` is the base's form, which another may replace."""

    method: Mapping[str, Any] = field(default_factory=dict[str, Any])
    base: str | None = None


METHOD_WORDS: dict[str, Word] = {
    "qlora": Word(method={"type": "lora"}, base="nf4"),
    "qdora": Word(method={"type": "dora"}, base="nf4"),
    "loftq": Word(method={"type": "lora", "init": "loftq"}, base="nf4"),
    "pissa": Word(method={"type": "lora", "init": "pissa"}),
    "lora+": Word(method={"type": "lora", "b_rate_factor": LORA_PLUS_FACTOR}),
}


def expand_words(values: Values) -> tuple[list[Fault], list[tuple[str, str]]]:
    """Write out the method's word, in place; return what contradicts it and what it has set.

    Values that are given beside a word stay: `{type: lora+, b_rate_factor: 8}` is LoRA+ with 8.
    """
    method, model = values.get("method"), values.get("model")
    name = cast(Values, method).get("type") if isinstance(method, dict) else None
    word = METHOD_WORDS.get(name) if isinstance(name, str) else None
    if word is None:
        return [], []
    given = cast(Values, method)
    faults = [
        Fault(
            found=f"{name} means {key}: {value}, and the recipe says {key}: {given[key]}",
            where=f"recipe: method.{key}",
            fix=f"remove method.{key}, or write method.type: {word.method['type']}",
        )
        for key, value in word.method.items()
        if key == "init" and given.get(key, value) != value
    ]
    values["method"] = {**word.method, **given, "type": word.method["type"]}
    placed = [("method", key) for key in word.method if key not in given]
    if word.base is None or not isinstance(model, dict):
        return faults, placed
    base = cast(Values, model)
    if "base" in base and base["base"] is None:
        fix = f"remove model.base, or write method.type: {word.method['type']}"
        found = f"{name} needs a quantised base, and model.base is null"
        return [*faults, Fault(found=found, where="recipe: model.base", fix=fix)], placed
    if "base" not in base:
        base["base"] = word.base
        placed.append(("model", "base"))
    return faults, placed
