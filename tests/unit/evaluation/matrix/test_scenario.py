from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.core.errors import RecipeError, UserError
from tunesmith.evaluation.matrix.scenario import find_scenarios

TASKS = {
    "alpaca-lora": "task: chat",
    "banking77-generated": "task: {type: classification, head: false}",
    "banking77-head": "task: classification",
    "chat-other": "task: chat",
    "dpo": "task: dpo",
    "gsm8k-lora": "task: chat",
    "tunes": "task: completion",
    "wnut17": "task: ner",
}


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    for name, task in TASKS.items():
        file = "tunes.abc" if name == "tunes" else "rows.jsonl"
        text = f"model: smollm2-135m-instruct\n{task}\ndata: {{train: {file}}}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_by_default_one_recipe_of_each_kind_is_taken_with_a_head_where_there_is_one(
    recipes: Path,
) -> None:
    assert [(one.kind, one.name) for one in find_scenarios([], recipes)] == [
        ("domain", "gsm8k-lora"),
        ("classification", "banking77-head"),
        ("ner", "wnut17"),
        ("chatbot", "alpaca-lora"),
        ("music", "tunes"),
    ]


def test_a_scenario_is_named_by_kind_name_beginning_or_path(recipes: Path) -> None:
    path = str(recipes / "chat-other.yaml")
    words = ["music", "banking77-generated", "wnut17", "alpaca", path]
    names = [one.name for one in find_scenarios(words, recipes)]
    assert names == ["tunes", "banking77-generated", "wnut17", "alpaca-lora", "chat-other"]
    assert len(find_scenarios(["alpaca", "chatbot"], recipes)) == 1
    assert len(find_scenarios(["all"], recipes)) == len(TASKS)


def test_what_names_no_recipe_or_several_is_refused_with_a_way_out(recipes: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_scenarios(["banking77", "wnut18", "qa"], recipes)
    found = [fault.found for fault in caught.value.faults]
    assert found == [
        "banking77 is the beginning of 2 recipes: banking77-generated, banking77-head",
        "unknown scenario 'wnut18'",
        "no recipe of qa",
    ]
    assert caught.value.faults[1].fix == "did you mean wnut17?"


def test_a_folder_without_recipes_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recipe of any scenario"):
        find_scenarios([], tmp_path / "nowhere")


def test_two_recipes_of_one_name_would_share_a_row(recipes: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "dpo.yaml").write_text((recipes / "dpo.yaml").read_text())
    with pytest.raises(UserError, match="two recipes of the name dpo"):
        find_scenarios(["dpo", str(other / "dpo.yaml")], recipes)


def test_overrides_hold_for_what_is_chosen_and_are_checked_there(recipes: Path) -> None:
    (one,) = find_scenarios(["tunes"], recipes, ["training.max_steps=3"])
    assert one.recipe.training.max_steps == 3
    with pytest.raises(RecipeError):
        find_scenarios(["tunes"], recipes, ["training.max_stepz=3"])
