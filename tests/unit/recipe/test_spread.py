from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.core.run_dir import RunDir, read_json, write_json
from tunesmith.recipe.load import load_recipe, recipe_from_resolved, resolved
from tunesmith.recipe.spread import change_strategy, sets_strategy
from tunesmith.recipe.strategy import DdpStrategy, SingleStrategy


def run_of(folder: Path, **parts: Any) -> RunDir:
    recipe = {"model": "tiny", "task": "chat", "data": {"train": "sample:tiny"}, **parts}
    run_dir = RunDir(folder)
    write_json(run_dir.resolved_json, resolved(load_recipe(recipe)))
    return run_dir


def test_only_the_strategys_values_are_its() -> None:
    assert sets_strategy("strategy=ddp")
    assert sets_strategy("strategy.processes=2")
    assert not sets_strategy("training.epochs=1")
    assert not sets_strategy("strategies=1")


def test_a_run_goes_on_with_another_strategy_and_is_else_as_it_was(tmp_path: Path) -> None:
    run_dir = run_of(tmp_path, strategy={"type": "ddp", "processes": 2, "hang_after_s": 60.0})
    before = read_json(run_dir.resolved_json)
    change_strategy(run_dir, ["strategy.processes=4"])
    after = read_json(run_dir.resolved_json)
    strategy = recipe_from_resolved(run_dir.resolved_json).strategy
    assert strategy == DdpStrategy(processes=4, hang_after_s=60.0)
    assert after["origins"]["strategy.processes"] == "flag"
    assert {**after["recipe"], "strategy": None} == {**before["recipe"], "strategy": None}
    change_strategy(run_dir, ["strategy=single"])
    assert recipe_from_resolved(run_dir.resolved_json).strategy == SingleStrategy()


def test_a_strategy_that_does_not_go_with_the_run_is_refused(tmp_path: Path) -> None:
    run_dir = run_of(tmp_path, method="qlora")
    with pytest.raises(RecipeError, match="stored in uint8"):
        change_strategy(run_dir, ["strategy=fsdp"])
    assert recipe_from_resolved(run_dir.resolved_json).strategy == SingleStrategy()
