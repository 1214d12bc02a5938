"""Words for a method and a base together, and the values that cannot go together."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.recipe import Recipe

LEAST: dict[str, Any] = {"model": "tiny", "task": "chat", "data": {"train": "rows.jsonl"}}


def recipe_of(method: object, *overrides: str, **model: Any) -> Recipe:
    source = {**LEAST, "model": {"source": "tiny", **model}, "method": method}
    return load_recipe(source, overrides).recipe


@pytest.mark.parametrize(
    ("word", "method", "base"),
    [
        ("qlora", LoraMethod(), "nf4"),
        ("qdora", LoraMethod(type="dora"), "nf4"),
        ("loftq", LoraMethod(init="loftq"), "nf4"),
        ("pissa", LoraMethod(init="pissa"), None),
        ("lora+", LoraMethod(b_rate_factor=16), None),
    ],
)
def test_a_word_stands_for_its_values(word: str, method: LoraMethod, base: str | None) -> None:
    for form in (word, {"type": word}):
        recipe = recipe_of(form)
        assert (recipe.method, recipe.model.base) == (method, base)
    by_flag = load_recipe(LEAST, [f"method={word}"])
    assert (by_flag.recipe.method, by_flag.recipe.model.base) == (method, base)
    if base:
        assert by_flag.origins["model.base"] == "flag"


def test_values_beside_a_word_stay() -> None:
    recipe = recipe_of({"type": "qlora", "rank": 4}, base="fp4")
    assert (recipe.method, recipe.model.base) == (LoraMethod(rank=4), "fp4")
    faster = recipe_of({"type": "lora+", "b_rate_factor": 4}).method
    assert isinstance(faster, LoraMethod)
    assert faster.b_rate_factor == 4


@pytest.mark.parametrize(
    ("method", "model", "found", "fix"),
    [
        ("qlora", {"base": None}, "qlora needs a quantised base", "method.type: lora"),
        ({"type": "loftq", "init": "pissa"}, {}, "loftq means init: loftq", "remove method.init"),
        ("full", {"base": "nf4"}, "full trains the base's weights", "method: lora"),
        ("pissa", {"base": "int8"}, "pissa starts from the base's own weights", "loftq"),
        ({"init": "loftq"}, {}, "the base is not quantised", "model.base: nf4"),
    ],
)
def test_what_cannot_go_together_is_refused(
    method: object, model: dict[str, Any], found: str, fix: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(method, **model)
    faults = caught.value.faults
    assert any(found in fault.found and fix in fault.fix for fault in faults), faults
