"""The columns of the measured table: what each word changes in a scenario's recipe.

A technique is a method, a form of the base and a strategy, three axes that tables of techniques
mix. Its learning rate is the recipe's own only where the recipe's method is of the same family
(lora, qlora, dora: low-rank factors, one default rate); a rate that was chosen for adapters would
ruin a whole model, so all others take their method's default.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.core.errors import Fault, UserError
from tunesmith.recipe.load import LoadedRecipe
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.method_list import list_methods
from tunesmith.recipe.peft_method import ROWS
from tunesmith.recipe.words import METHOD_WORDS

# The words of the low-rank family: they keep the recipe's rank, alpha and targets.
LOW_RANK = ("lora", "rslora", "dora", *METHOD_WORDS)
# Strategies train all weights: what they spread, an adapter has little of.
STRATEGIES: dict[str, str] = {
    "deepspeed": "{type: deepspeed, zero: 2}",
    "zero-3": "{type: deepspeed, zero: 3}",
}
DEFAULT_TECHNIQUES = ("full", "lora", "qlora", "dora", "ia3", *STRATEGIES)


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A column on its three axes: method, form of the base, and how work is spread.

    `word` is what a recipe is given for the method, which may stand for more than its axis says.
    """

    name: str
    word: str
    method: str
    base: str | None = None
    strategy: str | None = None
    trains: str = ""


@dataclass(frozen=True)
class Rate:
    """Where a cell's learning rate comes from, for people."""

    origin: str
    overrides: tuple[str, ...] = ()


def find_techniques(words: Sequence[str]) -> tuple[Technique, ...]:
    """Return the techniques by their words, each once.

    Raises:
        UserError: a word is none; every such word is named.
    """
    known = [*list_methods(), *STRATEGIES]
    faults = [_unknown(word, known) for word in words if word not in known]
    if faults:
        raise UserError(faults, code="invalid_command")
    return tuple(_technique(word) for word in dict.fromkeys(words))


def change_recipe(technique: Technique, own: LoadedRecipe) -> tuple[str, ...]:
    """Return the overrides (as `--set` takes them) that make a recipe the technique's."""
    recipe = own.recipe
    stays = technique.word in LOW_RANK and isinstance(recipe.method, LoraMethod)
    key = "method.type" if stays else "method"
    overrides = [f"{key}={technique.word}"]
    if technique.base != recipe.model.base:
        overrides.append(f"model.base={technique.base or 'null'}")
    if technique.strategy is not None:
        overrides.append(f"strategy={technique.strategy}")
    return tuple(overrides)


def choose_rate(technique: Technique, own: LoadedRecipe, rates: Mapping[str, float]) -> Rate:
    """Return where the learning rate comes from; `rates` are those the user gave, by technique."""
    name = "training.learning_rate"
    if technique.name in rates:
        return Rate("given by --rate", (f"{name}={rates[technique.name]!r}",))
    match own.origins.get(name, "default"):
        case "flag":
            return Rate("given by --set")
        case "default":
            return Rate(f"the default of {technique.word}")
        case _:
            if technique.word in LOW_RANK and isinstance(own.recipe.method, LoraMethod):
                return Rate("the recipe's")
            return Rate(f"the default of {technique.word}", (f"{name}=null",))


def is_of_library(technique: str) -> bool:
    """Say whether a technique is one of the PEFT library's own methods."""
    return technique in ROWS


def _technique(name: str) -> Technique:
    if name in STRATEGIES:
        trains = list_methods()["full"].trains
        return Technique(
            name=name, word="full", method="full", strategy=STRATEGIES[name], trains=trains
        )
    stands_for = METHOD_WORDS.get(name)
    values = dict(stands_for.method) if stands_for else {"type": name}
    method = ", ".join((str(values.pop("type", "lora")), *(f"{k} {v}" for k, v in values.items())))
    base = stands_for.base if stands_for else None
    trains = list_methods()[name].trains
    return Technique(name=name, word=name, method=method, base=base, trains=trains)


def _unknown(word: str, known: Sequence[str]) -> Fault:
    near = difflib.get_close_matches(word, known, n=1)
    fix = (
        f"did you mean {near[0]}?"
        if near
        else "tunesmith methods lists them; or " + (" and ".join(STRATEGIES))
    )
    return Fault(found=f"unknown technique {word!r}", where="--techniques", fix=fix)
