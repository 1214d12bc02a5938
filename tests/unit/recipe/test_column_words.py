from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.recipe.data import ColumnMap
from tunesmith.recipe.load import load_recipe, resolved


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("sentence1_key", "sentence1"), ("label_key", "label"), ("token_key", "tokens"),
        ("tag_key", "tags"), ("answers_key", "answers"), ("answer_text_key", "answer_text"),
        ("answer_start_key", "answer_start"), ("document_key", "document"),
        ("summary_key", "summary"), ("source_lang", "source"), ("target_lang", "target"),
        ("text_key", "text"), ("ground_truth_key", "ground_truth"), ("question_key", "question"),
        ("context_key", "context"), ("messages", "messages"),
    ],
)  # fmt: skip
def test_a_task_pipelines_key_is_the_plain_word(theirs: str, ours: str) -> None:
    assert ColumnMap.model_validate({theirs: "x"}) == ColumnMap.model_validate({ours: "x"})


def recipe(folder: Path, columns: str, *sets: str) -> dict[str, object]:
    path = folder / "r.yaml"
    path.write_text(f"model: m\ntask: chat\ndata:\n  train: a.jsonl\n  columns: {columns}\n")
    return resolved(load_recipe(path, sets))


def test_the_resolved_recipe_shows_the_plain_word_and_its_origin(tmp_path: Path) -> None:
    document = recipe(tmp_path, "{label_key: intent, text: query}")
    columns = document["recipe"]["data"]["columns"]  # type: ignore[index]
    assert (columns["label"], columns["text"]) == ("intent", "query")  # type: ignore[index]
    assert document["origins"]["data.columns.label"] == "file"  # type: ignore[index]


def test_an_override_replaces_a_column_that_was_given_by_its_key(tmp_path: Path) -> None:
    document = recipe(tmp_path, "{label_key: intent}", "data.columns.label=category")
    assert document["recipe"]["data"]["columns"]["label"] == "category"  # type: ignore[index]


def test_one_column_given_under_two_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="label_key"):
        recipe(tmp_path, "{label: a, label_key: b}")


def test_an_unknown_column_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean label"):
        recipe(tmp_path, "{labell: a}")


def test_a_key_outside_the_columns_is_sent_there(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: m\ntask: chat\ndata:\n  train: a.jsonl\n  sentence1_key: t\n")
    with pytest.raises(RecipeError, match=r"data\.columns\.sentence1"):
        load_recipe(path)


def test_a_reward_task_is_refused_and_the_tasks_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: m\ntask: reward\ndata: {train: a.jsonl}\n")
    with pytest.raises(
        RecipeError, match="chat, completion, translation, summarization, classification, ner, qa, "
    ):
        load_recipe(path)
