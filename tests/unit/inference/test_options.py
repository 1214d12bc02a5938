from __future__ import annotations

import re

import pytest

from tunesmith.core.errors import Fault
from tunesmith.data.judgement import judge, judge_as
from tunesmith.data.rows import Row
from tunesmith.inference.options import AS_TRAINED, in_options
from tunesmith.recipe.data import DataPart

PART = DataPart(train="t.jsonl")


@pytest.mark.parametrize(
    ("fix", "words"),
    [
        ('"txt"? Set data.columns.text', '"txt"? Give --columns text=NAME'),
        ("name it in data.columns.label", "name it in --columns label=NAME"),
        ("name it in data.format", "name it in --format"),
        ("set data.format and data.columns", "give --format and --columns"),
        ("set task: chat, or write the rows in one of those forms",
         "write the rows in one of those forms"),
        ("set data.columns, such as {prompt: q, completion: a}",
         "give --columns prompt=q (and --columns completion=a)"),
        ("remove the row", "remove the row"),
    ],
)  # fmt: skip
def test_a_remedy_names_the_commands_options(fix: str, words: str) -> None:
    assert in_options(Fault(found="f", where="w", fix=fix)) == Fault(
        found="f", where="w", fix=words
    )


def test_what_no_option_changes_is_said_to_be_as_in_training() -> None:
    fix = "set data.system_role: fold to put its text at the start"
    assert in_options(Fault(found="f", where="w", fix=fix)).fix == f"{AS_TRAINED} ({fix})"


def test_the_length_of_a_question_is_the_models() -> None:
    found = "a question of 9 tokens with one of its candidates, where data.max_length is 8"
    fix = "set a longer data.max_length, or leave the question out"
    told = in_options(Fault(found=found, where="w", fix=fix))
    assert told.found.endswith("where what the model reads at most is 8")
    assert told.fix == "leave the question out"


def test_a_column_that_is_missing_is_told_with_the_option_that_names_it() -> None:
    trained = judge([Row("t.jsonl", 1, {"text": "x", "label": "a"}, 1)], PART, None, file="t.jsonl")
    judged = judge_as(trained, [Row("a.jsonl", 1, {"txt": "x"}, 1)], file="a.jsonl")
    assert judged.unsuitable is not None
    told = in_options(judged.unsuitable.to_fault())
    assert "--columns sentence1=NAME" in told.fix
    assert not re.search(r"\bdata\.", told.fix)
