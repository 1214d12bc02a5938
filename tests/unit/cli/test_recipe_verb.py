import json
from pathlib import Path

import pytest

from tunesmith.cli import quickstart
from tunesmith.cli.main import main
from tunesmith.recipe.load import load_recipe


def test_every_value_is_shown_with_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", str(quickstart.RECIPE), "--set", "training.seed=4"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["training.seed", "4", "flag"] in lines
    assert ["method.dropout", "0.0", "default"] in lines
    assert ["task.type", "chat", "file"] in lines


def test_json_is_what_a_run_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", str(quickstart.RECIPE), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["recipe"]["task"]["type"] == "chat"
    assert document["origins"]["task.type"] == "file"


def test_a_faulty_recipe_lists_every_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: x\ntask: chat\ndata: {train: a}\nepochs: 3\nlr: 1\nzzz: 1\n")
    assert main(["recipe", str(path)]) == 2
    errors = capsys.readouterr().err
    assert errors.count("error: ") == 3
    for line in ("recipe.yaml:4, epochs", "recipe.yaml:5, lr", "recipe.yaml:6, zzz"):
        assert line in errors


def test_the_quickstart_recipe_is_good_and_commented() -> None:
    loaded = load_recipe(quickstart.RECIPE)
    assert loaded.recipe.evaluation.metrics == ("json-match", "exact-match")
    assert loaded.text.count("#") >= 10
