from __future__ import annotations

from typing import Any

import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.core.rank_place import RankPlace
from tunesmith.data.pack import StepPlan
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.recipe import Recipe
from tunesmith.training.strategies.start import (
    require_place,
    require_strategy,
    strategy_warnings,
)

FULL = (StepPlan(1, 1.0, ((0,), (1,))),)
HALF_IDLE = (StepPlan(1, 1.0, ((0,),)),)


def recipe_of(**parts: Any) -> Recipe:
    least = {"model": "tiny", "task": "chat", "data": {"train": "sample:tiny"}}
    return load_recipe({**least, **parts}).recipe


def test_several_processes_for_a_recipe_of_one_are_refused() -> None:
    place = RankPlace(rank=0, size=2, local_rank=0, local_size=2, meeting="")
    with pytest.raises(RecipeError, match="2 processes were started"):
        require_place(recipe_of(), place)
    require_place(recipe_of(strategy="ddp"), place)


@pytest.mark.parametrize(
    ("strategy", "size", "plan", "words"),
    [
        ("single", 1, HALF_IDLE, []),
        ("ddp", 2, FULL, []),
        ("ddp", 2, HALF_IDLE, ["50% of the ranks' time is idle"]),
        ("ddp", 1, FULL, ["ddp with one process has nothing to spread"]),
        ({"type": "deepspeed"}, 1, FULL, ["deepspeed with one process"]),
        ({"type": "deepspeed", "offload": "cpu"}, 1, FULL, []),
    ],
)
def test_what_is_of_little_use_is_said(
    strategy: Any, size: int, plan: tuple[StepPlan, ...], words: list[str]
) -> None:
    warnings = list(strategy_warnings(recipe_of(strategy=strategy), size, plan))
    assert len(warnings) == len(words)
    assert all(word in text for word, text in zip(words, warnings, strict=True))


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"strategy": "fsdp", "method": "full"}, "method: full on weights in bf16"),
        (
            {"strategy": "fsdp", "method": {"type": "lora", "modules_to_save": ["lm_head"]}},
            "method.modules_to_save on weights in bf16",
        ),
    ],
)
def test_copies_in_fp32_that_an_engine_does_not_see_are_refused(
    parts: dict[str, Any], found: str
) -> None:
    with pytest.raises(RecipeError, match=found):
        require_strategy(recipe_of(**parts), "bf16")
    require_strategy(recipe_of(**parts), "fp32")
    require_strategy(recipe_of(**{**parts, "strategy": "ddp"}), "bf16")
