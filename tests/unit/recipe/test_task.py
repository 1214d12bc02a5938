"""The preference task in a recipe: its words, the options of each loss, its learning rate."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.recipe.load import load_recipe, recipe_from_resolved, resolved
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.task import LOSS_OPTIONS, PreferenceTask


def recipe(task: Any, *overrides: str, **parts: Any) -> Recipe:
    return load_recipe(
        {"model": "m", "task": task, "data": {"train": "a.jsonl"}, **parts}, overrides
    ).recipe


@pytest.mark.parametrize("word", LOSS_OPTIONS)
def test_a_loss_as_the_task_is_the_preference_task_with_its_defaults(word: str) -> None:
    for task in (word, {"type": word}, {"type": "preference", "loss": word}):
        found = recipe(task).task
        assert isinstance(found, PreferenceTask)
        values = {key: value for key, value in found.model_dump().items() if value is not None}
        assert values == {"type": "preference", "loss": word, **LOSS_OPTIONS[word]}
    assert recipe("chat", f"task={word}").task == recipe(word).task


def test_beta_depends_on_the_loss() -> None:
    assert [recipe(word).task.model_dump()["beta"] for word in ("dpo", "simpo", "kto")] == [
        0.1,
        2.0,
        0.1,
    ]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"type": "dpo", "gamma": 1.0}, "task.gamma is an option of simpo, and the loss is dpo"),
        ({"type": "orpo", "beta": 1.0}, "task.beta is an option of dpo and simpo and kto"),
        ({"type": "kto", "odds_weight": 1.0}, "task.odds_weight is an option of orpo"),
        ({"type": "chat", "beta": 0.1}, "task.beta does not belong to this task"),
        ({"type": "dpo", "beta": 0}, "write a number above 0"),
        ({"type": "dpo", "label_smoothing": 0.5}, "write a number below 0.5"),
        ({"type": "preference", "loss": "ppo"}, "task.loss is the text 'ppo'"),
        ({"type": "dpo", "loss": "kto"}, "task.type is the text 'dpo'"),
    ],
)
def test_an_option_that_does_not_belong_is_refused_with_what_to_write(
    task: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(task)
    assert words in str(caught.value)


def test_options_of_another_loss_are_named_with_that_loss() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe("dpo", "task.gamma=1", "task.odds_weight=2")
    assert [fault.fix for fault in caught.value.faults] == [
        "remove odds_weight, or use task.loss: orpo",
        "remove gamma, or use task.loss: simpo",
    ] or [fault.fix for fault in caught.value.faults] == [
        "remove gamma, or use task.loss: simpo",
        "remove odds_weight, or use task.loss: orpo",
    ]


def test_preferences_take_a_tenth_of_the_methods_rate() -> None:
    assert recipe("dpo").training.learning_rate == pytest.approx(2e-5)
    assert recipe("dpo", method="full").training.learning_rate == pytest.approx(2e-6)
    assert recipe("chat").training.learning_rate == pytest.approx(2e-4)


def test_a_resolved_recipe_shows_the_options_and_reads_back(tmp_path: Any) -> None:
    import json

    loaded = load_recipe({"model": "m", "task": "simpo", "data": {"train": "a.jsonl"}})
    content = resolved(loaded)
    assert content["recipe"]["task"]["gamma"] == 0.5
    assert content["origins"]["task.loss"] == "file"
    assert content["origins"]["task.gamma"] == "default"
    (tmp_path / "resolved.json").write_text(json.dumps(content))
    assert recipe_from_resolved(tmp_path / "resolved.json") == loaded.recipe


@pytest.mark.parametrize(
    ("overrides", "rate", "head_rate"),
    [
        (["method=full"], 2e-5, 1e-3),
        (["training.learning_rate=5e-3"], 5e-3, 5e-3),
        (["training.head_learning_rate=1e-4"], 2e-4, 1e-4),
    ],
)
def test_a_head_has_a_learning_rate_of_its_own(
    overrides: list[str], rate: float, head_rate: float
) -> None:
    found = recipe("classification", *overrides).training
    assert (found.learning_rate, found.head_learning_rate) == (rate, head_rate)


def test_a_heads_learning_rate_without_a_head_is_a_fault() -> None:
    assert recipe("chat").training.head_learning_rate is None
    with pytest.raises(RecipeError, match="a learning rate for a head, and task chat trains none"):
        recipe("chat", "training.head_learning_rate=1e-3")
