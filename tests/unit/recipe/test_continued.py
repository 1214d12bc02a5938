"""A recipe that goes on from an adapter takes from it what the adapter is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.recipe.load import LoadedRecipe, load_recipe
from tunesmith.recipe.method import LoraMethod


def make_adapter(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 6,
        "lora_dropout": 0.1,
        "target_modules": ["v_proj", "q_proj"],
        "base_model_name_or_path": "base",
    }
    (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
    return folder


def load(*overrides: str, **method: Any) -> LoadedRecipe:
    recipe = {"model": "m", "task": "chat", "data": {"train": "rows.jsonl"}, "method": method}
    return load_recipe(recipe, overrides)


def test_rank_alpha_type_and_targets_come_from_the_adapter(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", use_dora=True)
    loaded = load(type="lora", adapter=str(adapter))
    assert loaded.recipe.method == LoraMethod(
        type="dora", rank=4, alpha=6, dropout=0.1, targets=("v_proj", "q_proj"),
        adapter=str(adapter),
    )  # fmt: skip
    assert loaded.origins["method.rank"] == loaded.origins["method.type"] == "adapter"
    assert loaded.origins["method.adapter"] == "file"
    assert loaded.origins["method.b_rate_factor"] == "default"


def test_what_is_given_and_agrees_stays(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    loaded = load(adapter=str(adapter), rank=4, dropout=0.3, targets=["q_proj", "v_proj"])
    method = loaded.recipe.method
    assert isinstance(method, LoraMethod)
    assert (method.rank, method.dropout) == (4, 0.3)


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"rank": 8}, "rank"),
        ({"alpha": 16}, "alpha"),
        ({"type": "dora"}, "type"),
        ({"targets": "all-linear"}, "targets"),
        ({"init": "pissa"}, "init"),
    ],
)
def test_what_contradicts_the_adapter_is_a_fault(
    tmp_path: Path, given: dict[str, Any], key: str
) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    with pytest.raises(RecipeError, match=rf"method\.{key} is .*, and the adapter's is"):
        load(adapter=str(adapter), **given)


def test_a_path_is_taken_from_the_recipes_folder_and_a_run_stands_for_its_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "desk"
    final = make_adapter(run / "final")
    (run / "resolved.json").write_text("{}")
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "model: m\ntask: chat\ndata: {train: rows.jsonl}\nmethod: {adapter: runs/desk}\n"
    )
    method = load_recipe(file).recipe.method
    assert isinstance(method, LoraMethod)
    assert method.adapter == str(final)
    monkeypatch.chdir(tmp_path / "runs")
    by_flag = load_recipe(file, ["method.adapter=desk/final"]).recipe.method
    assert by_flag == method


def test_a_folder_without_an_adapter_is_a_fault_of_the_key(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no adapter here") as caught:
        load(adapter=str(tmp_path))
    assert caught.value.faults[0].where.startswith("recipe: method.adapter")
    other = make_adapter(tmp_path / "other", peft_type="IA3")
    with pytest.raises(RecipeError, match="type IA3"):
        load(adapter=str(other))


def test_dora_with_rslora_keeps_its_scale(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", use_dora=True, use_rslora=True)
    method = load(adapter=str(adapter)).recipe.method
    assert isinstance(method, LoraMethod)
    assert (method.type, method.scale) == ("dora", 6 / 2)
