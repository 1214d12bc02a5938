"""Files of a recipe on another machine: sent once, found there by the recipe's own paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.tiny_run import make_model_folder, make_rows
from tunesmith.core.errors import MachineError
from tunesmith.core.placed import INPUTS, as_named, placed
from tunesmith.data.source import find_files
from tunesmith.models.prepare import prepare_model
from tunesmith.platforms.object_store import open_store
from tunesmith.platforms.stored_inputs import fetch_inputs, files_of, send_inputs
from tunesmith.platforms.stored_run import StoredRun
from tunesmith.recipe.load import load_recipe
from tunesmith.training.final_folder import base_reference


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredRun:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "store").mkdir()
    return StoredRun(open_store(f"file://{tmp_path}/store"), "run-1")


def test_a_recipes_files_are_found_where_they_are_not(
    run: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model_folder(tmp_path / "driver" / "model")
    make_rows(tmp_path / "driver" / "a.jsonl", 4)
    make_rows(tmp_path / "driver" / "b.jsonl", 5)
    pattern = f"{tmp_path}/driver/*.jsonl"
    recipe = load_recipe({"model": str(model), "task": "chat", "data": {"train": pattern}}).recipe
    files = files_of(recipe)
    assert {file.name for file in files} >= {"config.json", "model.safetensors", "a.jsonl"}
    assert sorted(send_inputs(recipe, run)) == sorted(map(str, files))
    assert send_inputs(recipe, run) == []

    (tmp_path / "driver").rename(tmp_path / "gone")
    fetch_inputs(run, tmp_path / "node")
    monkeypatch.setenv(INPUTS, str(tmp_path / "node"))
    prepared = prepare_model(recipe.model.source)
    assert prepared.folder == Path(f"{tmp_path}/node{model}")
    assert (prepared.name, base_reference(prepared)) == (str(model), str(model))
    found = find_files(pattern)
    assert [str(file.path) for file in found] == [
        f"{tmp_path}/node{tmp_path}/driver/{name}.jsonl" for name in "ab"
    ]
    assert [file.shown for file in found] == [f"{tmp_path}/driver/{name}.jsonl" for name in "ab"]


def test_names_that_are_no_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INPUTS, str(tmp_path))
    for name in ("sample:support-desk", "owner/name:train", "/a/path/that/was/not/sent"):
        assert (placed(name), as_named(name)) == (name, name)


def test_a_file_that_was_changed_in_the_store_is_refused(run: StoredRun, tmp_path: Path) -> None:
    rows = make_rows(tmp_path / "rows.jsonl", 4)
    data = {"train": str(rows)}
    recipe = load_recipe({"model": "smollm2-135m-instruct", "task": "chat", "data": data}).recipe
    send_inputs(recipe, run)
    (kept,) = (tmp_path / "store" / "inputs").iterdir()
    kept.write_text(kept.read_text().replace("answer", "ANSWER"))
    with pytest.raises(MachineError, match="is not what was sent"):
        fetch_inputs(run, tmp_path / "node")
    assert not list((tmp_path / "cache" / "fetched").glob("*"))
