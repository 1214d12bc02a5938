from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.core import extras
from tunesmith.core.errors import MachineError, RecipeError
from tunesmith.core.run_dir import RunDir, read_json, write_json
from tunesmith.recipe.load import load_recipe, recipe_from_resolved, resolved
from tunesmith.recipe.spread import change_strategy
from tunesmith.recipe.target import LocalTarget, RayTarget, require_platform


def load(*overrides: str, **parts: Any) -> Any:
    recipe = {"model": "tiny", "task": "chat", "data": {"train": "sample:tiny"}, **parts}
    return load_recipe(recipe, overrides)


def test_a_run_happens_on_this_machine_where_nothing_else_is_said() -> None:
    assert load().recipe.target == LocalTarget()


def test_a_word_stands_for_a_target_and_another_takes_its_place() -> None:
    assert load(target="ray").recipe.target == RayTarget()
    there = {"type": "ray", "cores": 2}
    assert load("target.type=ray", target=there).recipe.target == RayTarget(cores=2)
    assert load("target=local", target=there).recipe.target == LocalTarget()


@pytest.mark.parametrize(
    ("target", "found", "fix"),
    [
        ({"type": "local", "cores": 2}, "does not belong to this target", "target.type: ray"),
        ({"type": "ray", "cores": 0}, "target.cores is 0", "from 1 on"),
        ("rye", "target.type is", "did you mean ray?"),
    ],
)
def test_what_a_target_cannot_be_is_said(target: Any, found: str, fix: str) -> None:
    with pytest.raises(RecipeError) as error:
        load(target=target)
    (fault,) = error.value.faults
    assert found in fault.found
    assert fix in fault.fix


def test_a_run_goes_on_elsewhere(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    content = resolved(load(strategy="ddp"))
    del content["recipe"]["target"]  # as runs had it that were begun before there were targets
    write_json(run_dir.resolved_json, content)
    change_strategy(run_dir, ["target.type=ray", "target.restarts=1"])
    recipe = recipe_from_resolved(run_dir.resolved_json)
    assert recipe.target == RayTarget(restarts=1)
    assert recipe.strategy.type == "ddp"
    assert read_json(run_dir.resolved_json)["origins"]["target.restarts"] == "flag"


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match=r"pip install 'tunesmith\[ray\]'"):
        require_platform(RayTarget())
    require_platform(LocalTarget())


def test_parts_of_a_checkpoint_need_a_shared_disk() -> None:
    recipe = {
        "model": "smollm2-135m-instruct",
        "task": "chat",
        "data": {"train": "sample:support-desk"},
        "strategy": {"type": "fsdp", "checkpoints": "parts"},
        "target": {"type": "ray", "storage": "s3://bucket/prefix"},
    }
    with pytest.raises(RecipeError, match="needs a disk that all nodes have"):
        load_recipe(recipe)
    target = load_recipe(recipe, ["strategy.checkpoints=whole"]).recipe.target
    assert isinstance(target, RayTarget)
    assert target.storage == "s3://bucket/prefix"
