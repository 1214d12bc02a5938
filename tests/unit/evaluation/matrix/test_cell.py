from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.core import extras
from tunesmith.core.run_dir import RunDir, RunState, read_json, write_json
from tunesmith.evaluation.matrix.cell import Cell, find_stale, is_measured, plan_cell
from tunesmith.evaluation.matrix.scenario import find_scenarios
from tunesmith.evaluation.matrix.technique import find_techniques
from tunesmith.recipe.load import resolved

TEXT = "model: smollm2-135m-instruct\ntask: chat\ndata: {train: rows.jsonl}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(TEXT)
    return path


def plan(recipe: Path, technique: str, *overrides: str) -> Cell:
    (scenario,) = find_scenarios([str(recipe)], recipe.parent, overrides)
    return plan_cell(scenario, find_techniques([technique])[0], overrides)


def finish(cell: Cell, matrix: Path) -> RunDir:
    """What a finished run leaves, as far as it matters here."""
    assert cell.loaded is not None
    run_dir = RunDir.create(cell.folder(matrix))
    write_json(run_dir.resolved_json, resolved(cell.loaded))
    write_json(run_dir.result_json, {"status": "succeeded"})
    state = RunState(status="succeeded", pid=None, heartbeat=0.0, step=1, total_steps=1)
    run_dir.write_state(state)
    return run_dir


def test_a_cell_is_its_recipe_with_method_and_budget_replaced(recipe: Path) -> None:
    cell = plan(recipe, "qlora", "training.max_steps=5")
    assert cell.loaded is not None
    assert cell.loaded.recipe.model.base == "nf4"
    assert cell.loaded.recipe.training.max_steps == 5
    assert cell.name == "chat:qlora"


def test_equal_recipes_have_one_folder_and_a_changed_budget_another(recipe: Path) -> None:
    matrix = recipe.parent / "matrix"
    folder = plan(recipe, "lora").folder(matrix)
    assert folder.parent == matrix / "chat"
    assert folder == plan(recipe, "lora").folder(matrix)
    assert folder != plan(recipe, "lora", "training.max_steps=5").folder(matrix)


def test_a_finished_cell_is_kept_and_one_of_another_budget_is_told(recipe: Path) -> None:
    matrix = recipe.parent / "matrix"
    cell = plan(recipe, "lora")
    assert not is_measured(cell.folder(matrix), cell.recipe_hash or "")
    finish(cell, matrix)
    assert is_measured(cell.folder(matrix), cell.recipe_hash or "")
    assert find_stale(cell, matrix) == []
    longer = plan(recipe, "lora", "training.max_steps=5")
    assert not is_measured(longer.folder(matrix), longer.recipe_hash or "")
    assert find_stale(longer, matrix) == [cell.folder(matrix).name]


def test_a_cell_of_a_version_that_knew_fewer_keys_is_kept(recipe: Path) -> None:
    matrix = recipe.parent / "matrix"
    cell = plan(recipe, "lora")
    run_dir = finish(cell, matrix)
    content = read_json(run_dir.resolved_json)
    del content["recipe"]["training"]["head_learning_rate"]
    write_json(run_dir.resolved_json, content)
    earlier = run_dir.path.rename(run_dir.path.with_name("lora-0123abcd"))
    assert cell.folder(matrix) == earlier
    assert find_stale(cell, matrix) == []
    assert plan(recipe, "lora", "training.max_steps=5").folder(matrix) != earlier


def test_what_is_damaged_or_unfinished_is_not_kept(recipe: Path) -> None:
    matrix = recipe.parent / "matrix"
    cell = plan(recipe, "lora")
    run_dir = finish(cell, matrix)
    state = RunState(status="stopped", pid=None, heartbeat=0.0, step=1, total_steps=1)
    run_dir.write_state(state)
    assert not is_measured(run_dir.path, cell.recipe_hash or "")
    run_dir.state_json.write_text("{")
    assert not is_measured(run_dir.path, cell.recipe_hash or "")


def test_a_technique_that_cannot_be_keeps_its_reason(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    cell = plan(recipe, "zero-3")
    assert cell.loaded is None
    assert cell.recipe_hash is None
    assert "deepspeed is not installed" in cell.refusal[0].found
    assert "single" not in cell.refusal[0].fix


def test_a_combination_that_contradicts_itself_keeps_its_reason(recipe: Path) -> None:
    recipe.write_text(TEXT + "method: {type: lora, init: pissa}\n")
    assert plan(recipe, "lora").refusal == ()
    cell = plan(recipe, "qlora")
    assert cell.loaded is None
    assert "pissa" in cell.refusal[0].found
