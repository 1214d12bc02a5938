import json

import pytest
from pydantic import ValidationError

from tunesmith.recipe import FullMethod, LoraMethod, Recipe, Share

LEAST = {"model": "tiny", "task": "chat", "data": {"train": "a.jsonl"}}


def make(**changes: object) -> Recipe:
    return Recipe.model_validate({**LEAST, **changes})


def test_only_model_task_and_data_train_are_needed() -> None:
    recipe = make()
    assert recipe.model.source == "tiny"
    assert recipe.task.type == "chat"
    assert recipe.data.validation == Share(0.1)
    assert recipe.method == LoraMethod()


def test_a_recipe_survives_the_way_through_json() -> None:
    recipe = make(
        data={"train": "a.jsonl", "validation": "12.5%", "columns": {"prompt": "question"}},
        method={"type": "lora", "targets": ["q_proj", "v_proj"]},
        training={"warmup": 7, "betas": [0.8, 0.9]},
        evaluation={"metrics": ["json-match"]},
    )
    again = Recipe.model_validate(json.loads(recipe.model_dump_json()))
    assert again == recipe


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make().training.epochs = 1  # type: ignore[misc]


def test_every_field_says_what_it_is() -> None:
    parts = [field.annotation for field in Recipe.model_fields.values()]
    models = [part for part in parts if hasattr(part, "model_fields")] + [LoraMethod, FullMethod]
    fields = [field for model in models for field in model.model_fields.values()]
    assert len(fields) > 30
    assert all(field.description for field in fields)


@pytest.mark.parametrize(
    ("given", "kept"), [("10%", "10%"), (0.1, "10%"), ("2.5%", "2.5%"), (" 5 % ", "5%")]
)
def test_a_share_is_written_in_two_ways(given: object, kept: str) -> None:
    recipe = make(data={"train": "a", "validation": given})
    assert recipe.model_dump(mode="json")["data"]["validation"] == kept


def test_a_validation_file_is_no_share() -> None:
    assert make(data={"train": "a", "validation": "b.jsonl"}).data.validation == "b.jsonl"


@pytest.mark.parametrize("given", ["0%", "100%", "120%", "x%", 10, 0.0, None, -0.5])
def test_a_validation_that_splits_nothing_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        make(data={"train": "a", "validation": given})


@pytest.mark.parametrize(
    ("given", "kept"), [("3%", Share(0.03)), ("0%", Share(0.0)), (10, 10), (0, 0)]
)
def test_warm_up_is_a_share_or_steps(given: object, kept: object) -> None:
    assert make(training={"warmup": given}).training.warmup == kept


def test_one_name_becomes_a_list_of_one() -> None:
    recipe = make(
        method={"type": "lora", "targets": "q_proj"}, evaluation={"metrics": "json-match"}
    )
    assert recipe.method.targets == ("q_proj",)
    assert recipe.evaluation.metrics == ("json-match",)


def test_a_method_without_its_type_is_lora() -> None:
    assert make(method={"rank": 4}).method == LoraMethod(rank=4)


def test_the_default_learning_rate_depends_on_the_method() -> None:
    assert make().learning_rate == 2e-4
    assert make(method="full").learning_rate == 2e-5
    assert make(method="full", training={"learning_rate": 1e-3}).learning_rate == 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"epochs": "3"}},
        {"training": {"epochs": 0}},
        {"training": {"epochs": float("nan")}},
        {"training": {"learning_rate": float("inf")}},
        {"training": {"max_steps": True}},
        {"training": {"max_steps": 2.5}},
        {"training": {"betas": [0.9]}},
        {"training": {"warmup": 2.5}},
        {"evaluation": {"before": "no"}},
        {"evaluation": {"before": 1}},
        {"method": {"type": "lora", "targets": []}},
        {"method": {"type": "lora", "rank": None}},
        {"method": {"type": "full", "rank": 8}},
        {"data": {"train": ""}},
        {"model": ""},
    ],
)
def test_a_wrong_value_is_refused_and_never_bent(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make(**changes)
