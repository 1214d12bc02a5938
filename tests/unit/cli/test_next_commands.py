import json
from pathlib import Path

import pytest

from tunesmith.cli.next_commands import next_commands
from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.recipe.load import load_recipe, resolved


def run_on(folder: Path, systems: list[str | None]) -> RunDir:
    rows = folder / "rows.jsonl"
    with rows.open("w") as file:
        for number, system in enumerate(systems):
            turns = [{"role": "system", "content": system}] if system else []
            turns.append({"role": "user", "content": f"question {number}"})
            turns.append({"role": "assistant", "content": "yes"})
            file.write(json.dumps({"messages": turns}) + "\n")
    run_dir = RunDir.create(folder / "run")
    recipe = {"model": "tiny", "task": "chat", "data": {"train": str(rows)}}
    write_json(run_dir.resolved_json, resolved(load_recipe(recipe)))
    return run_dir


def test_the_system_message_that_all_rows_bring_is_part_of_the_chat(tmp_path: Path) -> None:
    commands = next_commands(run_on(tmp_path, ["It's JSON."] * 3))
    assert commands["talk to it"].endswith("""--system 'It'"'"'s JSON.'""")
    assert commands["talk to what it was before"].startswith("tunesmith chat tiny --system")


@pytest.mark.parametrize("systems", [[None, None], ["a", "b"], ["a", None]])
def test_rows_that_differ_bring_none(tmp_path: Path, systems: list[str | None]) -> None:
    assert "--system" not in next_commands(run_on(tmp_path, systems))["talk to it"]


def test_data_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    run_dir = run_on(tmp_path, ["a"])
    (tmp_path / "rows.jsonl").unlink()
    assert "--system" not in next_commands(run_dir)["talk to it"]


def test_a_file_of_rows_is_answered_with_the_message_that_training_had(tmp_path: Path) -> None:
    run_dir = run_on(tmp_path, ["Be kind."] * 3)
    command = next_commands(run_dir)["answer a file of rows"]
    files = "--input rows.jsonl --output answers.jsonl"
    assert command == f"tunesmith predict {run_dir.path} {files} --system 'Be kind.'"


def test_an_adapter_may_be_merged_and_a_whole_model_need_not(tmp_path: Path) -> None:
    run_dir = run_on(tmp_path, [None])
    words = next_commands(run_dir)["make it one folder"].split()
    assert words[1:] == ["merge", str(run_dir.path), "--output", f"{run_dir.path}-merged"]
    content = json.loads(run_dir.resolved_json.read_text())
    content["recipe"]["method"] = {"type": "full"}
    run_dir.resolved_json.write_text(json.dumps(content))
    assert "make it one folder" not in next_commands(run_dir)
