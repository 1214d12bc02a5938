from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import RecipeError, UserError
from tunesmith.recipe.deepspeed_config import engine_settings, merged
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.recipe import Recipe


def recipe_of(folder: Path, settings: Any, **strategy: Any) -> Recipe:
    (folder / "engine.json").write_text(json.dumps(settings))
    (folder / "recipe.yaml").write_text(
        json.dumps(
            {
                "model": "tiny",
                "task": "chat",
                "data": {"train": "sample:tiny"},
                "training": {"learning_rate": 1e-4},
                "strategy": {"type": "deepspeed", "config": "engine.json", **strategy},
            }
        )
    )
    return load_recipe(folder / "recipe.yaml").recipe


def test_without_a_file_there_are_no_further_settings() -> None:
    least = {"model": "tiny", "task": "chat", "data": {"train": "sample:tiny"}}
    assert engine_settings(load_recipe(least).recipe) == {}


def test_what_the_recipe_does_not_decide_goes_to_the_engine(tmp_path: Path) -> None:
    settings = {
        "train_batch_size": "auto",
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "weight_decay": "auto"}},
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 1000, "overlap_comm": "auto"},
        "wall_clock_breakdown": True,
    }
    found = engine_settings(recipe_of(tmp_path, settings))
    assert found == {
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 1000},
        "wall_clock_breakdown": True,
    }


@pytest.mark.parametrize(
    ("settings", "both"),
    [
        ({"zero_optimization": {"stage": 3}}, ("stage is 3", "strategy.zero is 2")),
        ({"gradient_clipping": 0.5}, ("is 0.5", "max_gradient_norm is 1.0")),
        ({"optimizer": {"params": {"lr": 1e-3}}}, ("is 0.001", "learning_rate is 0.0001")),
        ({"optimizer": {"type": "Lion"}}, ("'Lion'", "'adamw'")),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, ("'cpu'", "'none'")),
        ({"zero_optimization": {"offload_param": {"device": "nvme"}}}, ("'nvme'", "'none'")),
        ({"gradient_accumulation_steps": 4}, ("steps is 4", "about 4 micro-batches")),
        ({"scheduler": {"type": "WarmupLR"}}, ("'WarmupLR'", "schedule is cosine")),
        ({"fp16": {"enabled": True}}, ("is True", "model.dtype is False")),
    ],
)
def test_a_contradiction_names_both_values(
    tmp_path: Path, settings: dict[str, Any], both: tuple[str, str]
) -> None:
    with pytest.raises(RecipeError) as error:
        recipe_of(tmp_path, settings)
    (fault,) = error.value.faults
    assert all(words in fault.found for words in both)
    assert fault.where.startswith(f"{tmp_path / 'engine.json'}; {tmp_path / 'recipe.yaml'}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {})
    (tmp_path / "engine.json").unlink()
    with pytest.raises(UserError, match=r"engine\.json"):
        engine_settings(recipe)


def test_parts_are_merged() -> None:
    ours = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merged(ours, {"a": {"y": 5}, "c": 4}) == {"a": {"x": 1, "y": 5}, "b": 3, "c": 4}
