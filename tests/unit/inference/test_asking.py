from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.run_dir import RunDir, write_json
from tunesmith.data.asked import AskedRows, FaultyRow, reading_record
from tunesmith.data.conversation import Conversation, PromptCompletion, Sample
from tunesmith.data.rows import Row
from tunesmith.data.validate import judge
from tunesmith.inference.asking import find_run, input_files, rows_to_ask
from tunesmith.inference.predict_request import PredictRequest
from tunesmith.recipe.load import load_recipe, resolved

LABELLED = {"text": "late parcel", "intent": "delivery"}


def make_run(folder: Path, row: dict[str, Any], *, keeps_reading: bool = True, **parts: Any) -> str:
    """A run's folder as far as its rows are known."""
    run_dir = RunDir.create(folder)
    data = {"train": "rows.jsonl", "limit": 1, **parts.pop("data", {})}
    recipe = load_recipe({"model": "m", "task": "chat", "data": data, **parts})
    write_json(run_dir.resolved_json, resolved(recipe))
    if keeps_reading:
        task = recipe.recipe.task.type
        judged = judge([Row("t.jsonl", 1, row, 1)], recipe.recipe.data, task, file="t.jsonl")
        write_json(run_dir.reading_json, reading_record(judged))
    return str(run_dir.path)


def ask(folder: Path, what: str, *rows: object, **words: Any) -> AskedRows:
    file = folder / "asked.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = words.pop("task", None)
    request = PredictRequest(what=what, input=str(file), output="answers.jsonl", **words)
    return rows_to_ask(request, input_files(request), task)


def samples(rows: AskedRows) -> list[Sample]:
    read = list(rows)
    assert not any(isinstance(row, FaultyRow) for row in read), read
    return [row for row in read if not isinstance(row, FaultyRow)]


def question(sample: Sample) -> str:
    assert isinstance(sample, Conversation)
    return sample.messages[-2].content


def test_rows_are_read_in_the_form_of_the_runs_own(tmp_path: Path) -> None:
    what = make_run(tmp_path / "run", LABELLED)
    (sample,) = samples(ask(tmp_path, what, {"text": "no parcel"}))
    assert question(sample) == "Classify the text. Answer with the label only.\n\nno parcel"


@pytest.mark.parametrize("inner", ["final", "checkpoints/step-40"])
def test_what_lies_in_a_runs_folder_is_asked_like_the_run(tmp_path: Path, inner: str) -> None:
    what = make_run(tmp_path / "run", LABELLED)
    found = find_run(f"{what}/{inner}")
    assert found is not None
    assert str(found.path) == what
    (sample,) = samples(ask(tmp_path, f"{what}/{inner}", {"text": "no parcel"}))
    assert question(sample).startswith("Classify")


def test_all_rows_are_asked_whatever_the_runs_limit_was(tmp_path: Path) -> None:
    what = make_run(tmp_path / "run", LABELLED)
    assert len(samples(ask(tmp_path, what, *[{"text": "a"}] * 5))) == 5


def test_the_runs_system_message_and_order_of_turns_hold_unless_asked_otherwise(
    tmp_path: Path,
) -> None:
    data = {"system": "Be brief.", "turn_order": "merge"}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    what = make_run(tmp_path / "run", {"messages": turns}, data=data)
    asked = {"messages": [turns[0], turns[0]]}
    rows = ask(tmp_path, what, asked)
    assert rows.part.system == "Be brief."
    assert question(samples(rows)[0]) == "a\n\na"
    assert ask(tmp_path, what, asked, system="Be long.").part.system == "Be long."


def test_a_system_message_takes_the_place_of_the_instruction(tmp_path: Path) -> None:
    what = make_run(tmp_path / "run", LABELLED)
    (sample,) = samples(ask(tmp_path, what, {"text": "no parcel"}, system="Name the label."))
    assert question(sample) == "no parcel"


def test_columns_of_the_input_may_have_names_of_their_own(tmp_path: Path) -> None:
    what = make_run(tmp_path / "run", LABELLED)
    rows = ask(tmp_path, what, {"said": "no parcel"}, columns={"sentence1": "said"})
    assert question(samples(rows)[0]).endswith("no parcel")


def test_another_form_may_be_asked_for(tmp_path: Path) -> None:
    what = make_run(tmp_path / "run", LABELLED)
    turns = {"messages": [{"role": "user", "content": "hello"}]}
    assert question(samples(ask(tmp_path, what, turns, format="messages"))[0]) == "hello"


def test_a_run_without_a_record_is_asked_by_its_recipe(tmp_path: Path) -> None:
    parts = {"data": {"columns": {"prompt": "ask", "completion": "reply"}}, "task": "completion"}
    what = make_run(tmp_path / "run", {}, keeps_reading=False, **parts)
    (sample,) = samples(ask(tmp_path, what, {"ask": "2+3"}))
    assert sample == PromptCompletion(
        prompt="2+3", completion="", row_id="asked.jsonl:1", file=sample.file, line=1
    )


def test_without_a_run_the_rows_themselves_say_their_form(tmp_path: Path) -> None:
    rows = ask(tmp_path, "a-model", {"prompt": "hello"}, system="Be brief.")
    assert question(samples(rows)[0]) == "hello"
    assert rows.part.system == "Be brief."
    going_on = ask(tmp_path, "a-model", {"prompt": "hello"}, task="completion")
    assert isinstance(samples(going_on)[0], PromptCompletion)


def test_the_input_may_be_called_otherwise(tmp_path: Path) -> None:
    (sample,) = samples(ask(tmp_path, "a-model", {"prompt": "hello"}, shown="stdin"))
    assert sample.row_id == "stdin:1"


def test_a_request_comes_through_its_text() -> None:
    request = PredictRequest(
        what="m", input="i", output="o", adapters=(("a", 0.5),), columns={"prompt": "q"}, seed=3
    )
    assert PredictRequest.from_json(request.to_json()) == request
