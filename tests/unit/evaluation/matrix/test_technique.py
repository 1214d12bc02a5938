from __future__ import annotations

from typing import Any

import pytest

from tunesmith.core.errors import UserError
from tunesmith.evaluation.matrix.technique import (
    DEFAULT_TECHNIQUES,
    change_recipe,
    choose_rate,
    find_techniques,
)
from tunesmith.recipe.load import LoadedRecipe, load_recipe
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.recipe import Recipe

RECIPE: dict[str, Any] = {
    "model": "smollm2-135m-instruct",
    "task": "chat",
    "data": {"train": "rows.jsonl"},
    "method": {"type": "lora", "rank": 4, "targets": ["q_proj"]},
    "training": {"learning_rate": 1e-3},
}


def load(**parts: Any) -> LoadedRecipe:
    return load_recipe({**RECIPE, **parts})


def changed(word: str, rates: dict[str, float] | None = None, **parts: Any) -> Recipe:
    (technique,) = find_techniques([word])
    own = load(**parts)
    rate = choose_rate(technique, own, rates or {})
    return load_recipe(
        {**RECIPE, **parts}, (*change_recipe(technique, own), *rate.overrides)
    ).recipe


def test_the_low_rank_family_keeps_the_recipes_settings_and_its_rate() -> None:
    for word, kind, base in (
        ("lora", "lora", None),
        ("dora", "dora", None),
        ("qlora", "lora", "nf4"),
        ("qdora", "dora", "nf4"),
    ):
        recipe = changed(word)
        assert isinstance(recipe.method, LoraMethod)
        assert (recipe.method.type, recipe.model.base) == (kind, base)
        assert (recipe.method.rank, recipe.method.targets) == (4, ("q_proj",))
        assert recipe.learning_rate == 1e-3


def test_other_methods_take_their_own_rate_not_the_adapters() -> None:
    for word, rate in (("full", 2e-5), ("ia3", 5e-3)):
        assert changed(word).learning_rate == rate
    assert isinstance(changed("full").method, FullMethod)


def test_a_rate_that_is_given_holds_for_its_technique_alone() -> None:
    assert changed("full", {"full": 1e-5}).learning_rate == 1e-5
    assert changed("lora", {"full": 1e-5}).learning_rate == 1e-3


def test_where_a_rate_comes_from_is_said() -> None:
    (lora, full) = find_techniques(["lora", "full"])
    assert choose_rate(lora, load(), {}).origin == "the recipe's"
    assert choose_rate(full, load(), {}).origin == "the default of full"
    assert choose_rate(full, load(), {"full": 1e-4}).origin == "given by --rate"
    without = load(training={})
    assert choose_rate(lora, without, {}).origin == "the default of lora"
    flagged = load_recipe(RECIPE, ["training.learning_rate=3e-4"])
    assert choose_rate(full, flagged, {}).origin == "given by --set"
    assert choose_rate(full, flagged, {}).overrides == ()


def test_a_recipe_of_all_weights_lends_adapters_neither_settings_nor_rate() -> None:
    own = load(method="full", training={"learning_rate": 3e-6})
    (lora,) = find_techniques(["lora"])
    assert change_recipe(lora, own) == ("method=lora",)
    assert choose_rate(lora, own, {}).origin == "the default of lora"


def test_a_base_in_fewer_bits_is_the_techniques_choice_alone() -> None:
    model = {"source": "smollm2-135m-instruct", "base": "int8"}
    assert changed("lora", model=model).model.base is None
    assert changed("qlora", model=model).model.base == "nf4"


def test_a_word_is_shown_on_its_three_axes() -> None:
    by_name = {one.name: one for one in find_techniques([*DEFAULT_TECHNIQUES, "pissa"])}
    qlora, zero = by_name["qlora"], by_name["zero-3"]
    assert (qlora.method, qlora.base, qlora.strategy) == ("lora", "nf4", None)
    assert (zero.method, zero.strategy) == ("full", "{type: deepspeed, zero: 3}")
    assert by_name["pissa"].method == "lora, init pissa"


def test_unknown_techniques_are_all_named_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        find_techniques(["lorra", "lora", "zero3"])
    said = [(fault.found, fault.fix) for fault in caught.value.faults]
    assert said == [
        ("unknown technique 'lorra'", "did you mean lora?"),
        ("unknown technique 'zero3'", "did you mean zero-3?"),
    ]
