from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import MAX_FAULTS_IN_MESSAGE, DataError
from tunesmith.data.validate import CheckedData, check_file, raise_faults
from tunesmith.recipe.data import ColumnMap, DataPart

PAIR = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
NO_REPLY = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}


def check(folder: Path, *rows: Any, task: str = "chat", **part: Any) -> CheckedData:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert task in ("chat", "completion")
    return check_file(path, DataPart(train=str(path), **part), task)  # type: ignore[arg-type]


def error_of(data: CheckedData) -> DataError:
    with pytest.raises(DataError) as caught:
        raise_faults([data])
    return caught.value


def test_a_good_file_gives_samples_and_its_form(tmp_path: Path) -> None:
    data = check(tmp_path, PAIR, PAIR)
    assert (data.format, data.rows_read, len(data.samples), data.faults) == ("messages", 2, 2, ())
    raise_faults([data])


def test_no_usable_row_gives_a_table_of_reasons(tmp_path: Path) -> None:
    text = str(error_of(check(tmp_path, NO_REPLY, NO_REPLY, NO_REPLY)))
    assert "0 of 3 rows usable" in text
    assert "no assistant reply: 3" in text


def test_plain_text_is_no_chat(tmp_path: Path) -> None:
    data = check(tmp_path, *[{"text": "Plain prose."}] * 3)
    text = str(error_of(data))
    assert "0 of 3 rows usable" in text
    assert 'wrong format "text" for chat objective: 3' in text
    assert "task: completion" in text


def test_messages_are_no_completion(tmp_path: Path) -> None:
    assert "task: chat" in str(error_of(check(tmp_path, PAIR, task="completion")))


def test_every_fault_is_counted_and_printing_is_capped(tmp_path: Path) -> None:
    data = check(tmp_path, PAIR, *[NO_REPLY] * 50)
    assert (data.rows_with_faults, len(data.faults)) == (50, 50)
    error = error_of(data)
    assert len(error.faults) == 51
    assert "1 of 51 rows usable (no assistant reply: 50)" in str(error)
    assert str(error).count("where:") == MAX_FAULTS_IN_MESSAGE


def test_faults_of_several_files_are_one_error(tmp_path: Path) -> None:
    data = check(tmp_path, PAIR, NO_REPLY)
    with pytest.raises(DataError) as caught:
        raise_faults([data, data])
    assert len(caught.value.faults) == 2


def test_a_row_of_another_form_is_named(tmp_path: Path) -> None:
    data = check(tmp_path, PAIR, {"instruction": "a", "output": "b"}, PAIR)
    (fault,) = data.faults
    assert (fault.line, fault.reason) == (2, "mixed forms in one file")
    assert "alpaca" in fault.found


def test_the_form_is_that_of_most_rows(tmp_path: Path) -> None:
    odd = {"instruction": "a", "output": "b"}
    data = check(tmp_path, odd, PAIR, PAIR)
    assert (data.format, [fault.line for fault in data.faults]) == ("messages", [1])


def test_columns_that_no_form_knows_are_listed_with_what_to_set(tmp_path: Path) -> None:
    data = check(tmp_path, {"question": "q", "answer": "a"}, {"question": "q", "answer": "a"})
    text = str(error_of(data))
    assert "question, answer" in text
    assert "{prompt: question, completion: answer}" in text
    assert "0 of 2 rows usable" in text


def test_named_columns_are_read(tmp_path: Path) -> None:
    columns = ColumnMap(prompt="question", completion="answer")
    data = check(tmp_path, {"question": "q", "answer": "a", "id": 1}, columns=columns)
    assert (data.format, len(data.samples)) == ("prompt-completion", 1)
    assert data.ignored_columns == (("id", 1),)


def test_a_named_column_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    columns = ColumnMap(prompt="question", completion="answers")
    text = str(error_of(check(tmp_path, {"question": "q", "answer": "a"}, columns=columns)))
    assert 'no column "answers"' in text
    assert "answer, question" in text
    assert 'did you mean "answer"' in text


def test_a_sharegpt_list_may_have_another_name(tmp_path: Path) -> None:
    row = {"chat": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    columns = ColumnMap(messages="chat")
    assert check(tmp_path, row, columns=columns, format="sharegpt").rows_with_faults == 0
    assert check(tmp_path, row, columns=columns).rows_with_faults == 0


def test_a_form_that_is_asked_for_must_fit_the_file(tmp_path: Path) -> None:
    assert 'no column "text"' in str(
        error_of(check(tmp_path, PAIR, format="text", task="completion"))
    )


def test_columns_that_are_not_used_never_fail(tmp_path: Path) -> None:
    rows = [{**PAIR, "id": 7}, {**PAIR, "id": "K9x"}, {**PAIR, "id": ["\ud83d"]}]
    data = check(tmp_path, *rows)
    assert (data.faults, data.ignored_columns) == ((), (("id", 3),))


def test_a_nul_that_is_escaped_is_kept_and_counted(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "a\0b"}, *PAIR["messages"][1:]]}
    data = check(tmp_path, PAIR, row)
    assert data.faults == ()
    (note,) = data.notes
    assert (note.rows, note.first) == (1, "d.jsonl:2")


def test_an_empty_conversation_leaves_the_good_rows_usable(tmp_path: Path) -> None:
    data = check(tmp_path, PAIR, {"messages": []}, PAIR)
    assert len(data.samples) == 2
    assert data.reasons == (("empty messages", 1),)
    assert "d.jsonl:2" in str(error_of(data))


def test_the_limit_bounds_what_is_checked(tmp_path: Path) -> None:
    assert check(tmp_path, PAIR, PAIR, NO_REPLY, limit=2).rows_read == 2


def test_a_missing_file_is_one_fault_without_a_table(tmp_path: Path) -> None:
    data = check_file(tmp_path / "none.jsonl", DataPart(train="x"), "chat")
    text = str(error_of(data))
    assert "does not exist" in text
    assert "rows usable" not in text


def test_checking_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; import tunesmith.data.validate, tunesmith.data.split, tunesmith.data.pack, "
        "tunesmith.data.stats, tunesmith.data.pipeline; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
