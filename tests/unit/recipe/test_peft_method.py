"""A recipe's part for the PEFT library's methods: defaults, what each takes, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.peft_method import ROWS, SETTINGS, PeftMethod
from tunesmith.recipe.recipe import Recipe


def load(method: Any, **parts: Any) -> Recipe:
    recipe = {"model": "some-model", "task": "chat", "data": {"train": "rows.jsonl"}}
    return load_recipe({**recipe, "method": method, **parts}).recipe


def faults_of(method: Any, **parts: Any) -> list[Fault]:
    with pytest.raises(RecipeError) as caught:
        load(method, **parts)
    return list(caught.value.faults)


@pytest.mark.parametrize("word", ROWS)
def test_a_word_alone_is_a_whole_method_with_its_own_defaults_and_rate(word: str) -> None:
    recipe = load(word)
    row = ROWS[word]
    assert isinstance(recipe.method, PeftMethod)
    assert recipe.method.settings == row.takes
    assert recipe.learning_rate == row.learning_rate
    assert set(row.takes) <= set(SETTINGS)
    assert set(row.names) == set(row.takes)


def test_a_given_setting_takes_the_default_s_place_and_keeps_its_origin() -> None:
    loaded = load_recipe(
        {
            "model": "some-model",
            "task": "chat",
            "data": {"train": "rows.jsonl"},
            "method": {"type": "vera", "rank": 64},
        },
        ["method.dropout=0.1"],
    )
    assert loaded.recipe.method.model_dump(exclude_none=True) == {
        "type": "vera",
        "targets": "all-linear",
        "exclude_targets": (),
        "rank": 64,
        "dropout": 0.1,
    }
    origins = [loaded.origins[f"method.{key}"] for key in ("rank", "dropout", "targets")]
    assert origins == ["file", "flag", "default"]


@pytest.mark.parametrize(
    ("method", "key", "has"),
    [
        ({"type": "ia3", "rank": 8}, "rank", "targets"),
        ({"type": "prompt-tuning", "targets": "all-linear"}, "targets", "virtual_tokens"),
        ({"type": "oft", "alpha": 8, "frequencies": 9}, "alpha", "block_size, dropout, targets"),
        ({"type": "ln-tuning", "dropout": 0.1}, "dropout", "no settings"),
    ],
)
def test_a_setting_that_a_method_does_not_have_is_refused_with_those_it_has(
    method: dict[str, Any], key: str, has: str
) -> None:
    first = faults_of(method)[0]
    assert first.found == f"method {method['type']} has no {key}"
    assert f"method.{key}" in first.where
    assert has in first.fix


def test_all_settings_that_do_not_belong_are_told_at_once() -> None:
    assert len(faults_of({"type": "ia3", "rank": 8, "alpha": 3, "dropout": 0.1})) == 3


def test_a_wrong_value_is_named_by_its_path_without_the_method_s_word() -> None:
    for word in ("vera", "rslora", "dora"):
        (fault,) = faults_of({"type": word, "rank": 0})
        assert fault.where.endswith("method.rank")


def test_an_unknown_setting_names_the_nearest() -> None:
    (fault,) = faults_of({"type": "prompt-tuning", "virtual_token": 5})
    assert "did you mean virtual_tokens?" in fault.fix


def test_a_method_that_reads_the_weights_is_refused_on_a_quantised_base() -> None:
    (fault,) = faults_of("loha", model={"source": "some-model", "base": "nf4"})
    assert "loha" in fault.found
    assert "ia3" in fault.fix
    assert load("ia3", model={"source": "some-model", "base": "nf4"}).model.base == "nf4"


@pytest.mark.parametrize(
    ("word", "ours"),
    [("prompt", "prompt-tuning"), ("prefix_tuning", "prefix-tuning"), ("(IA)3", "ia3")],
)
def test_other_names_of_a_method_are_answered_with_ours(word: str, ours: str) -> None:
    (fault,) = faults_of(word)
    assert fault.fix == f"use method: {ours}"
