from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core.errors import MAX_FAULTS_IN_MESSAGE, DataError
from tunesmith.data.conversation import label_of
from tunesmith.data.rows import Row, read_rows
from tunesmith.data.validate import (
    CheckedData,
    RowChecker,
    Tally,
    check_file,
    judge,
    raise_faults,
)
from tunesmith.recipe.data import ColumnMap, DataPart

PAIR = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
NO_REPLY = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}


def check(folder: Path, *rows: Any, task: str = "chat", **part: Any) -> CheckedData:
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert task in ("chat", "completion")
    return check_file(path, DataPart(train=str(path), **part), task)  # type: ignore[arg-type]


def check_text(folder: Path, text: str, name: str = "d.jsonl", **part: Any) -> CheckedData:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return check_file(path, DataPart(train=str(path), **part), "chat")


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


def test_of_a_form_that_is_asked_for_the_column_that_is_missing_is_named(tmp_path: Path) -> None:
    row = {"text": "late parcel", "labels_": "delivery"}
    text = str(error_of(check(tmp_path, row, row, format="classification")))
    assert 'no column "label"' in text
    assert "sentence1" not in text
    assert 'did you mean "labels_"? Set data.columns.label' in text


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


def preference_rows() -> list[dict[str, Any]]:
    prompt = [{"role": "user", "content": "q"}]
    good, bad = [{"role": "assistant", "content": text} for text in ("good", "bad")]
    return [{"prompt": prompt, "chosen": [good], "rejected": [bad]}] * 2


def test_without_a_task_a_file_is_judged_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in preference_rows()))
    data = check_file(path, DataPart(train=str(path)), None)
    assert (data.format, data.rows_read, data.rows_with_faults) == ("preference", 2, 0)
    text = str(error_of(check(tmp_path, *preference_rows())))
    assert 'wrong format "preference" for chat objective: 2' in text


def test_an_empty_conversation_and_an_empty_rejected_list_are_both_listed(tmp_path: Path) -> None:
    """B032: one bad row does not end the load, and each has its line and reason."""
    bad = {"messages": PAIR["messages"], "rejected_messages": []}
    data = check(tmp_path, PAIR, {"messages": []}, bad)
    assert len(data.samples) == 1
    assert dict(data.reasons) == {
        "empty messages": 1, "empty rejected": 1, "mixed forms in one file": 1,
    }  # fmt: skip
    text = str(error_of(data))
    assert "d.jsonl:2" in text
    assert "d.jsonl:3, field rejected_messages" in text


def test_a_preference_row_is_not_taken_for_a_conversation(tmp_path: Path) -> None:
    pair = {**PAIR, "prompt": "q", "chosen": "a", "rejected": "b"}
    assert [fault.line for fault in check(tmp_path, PAIR, PAIR, pair).faults] == [3]
    rated = [{"prompt": "q", "completion": "a", "label": good} for good in (True, False)]
    assert check(tmp_path, *rated).format == "preference"


def test_a_number_among_texts_is_one_fault_with_its_row(tmp_path: Path) -> None:
    """B004: the row, the field, both types, and the row as it should be."""
    rows = [
        {"instruction": "Name a river", "input": "", "output": "Drava"},
        {"instruction": "Two plus two", "input": "", "output": 4},
    ]
    data = check_text(tmp_path, json.dumps(rows), "d.json")
    text = str(error_of(data))
    assert "row 2, field output" in text
    assert "got integer, expected string" in text
    assert '"output": "4"}' in text
    assert len(data.faults) == 1


def test_types_that_differ_in_a_used_column_are_told_with_the_first_row(tmp_path: Path) -> None:
    """B025: a list as text is read as one, and the difference is counted."""
    rows = [
        {**PAIR, "tools": "[]" if number <= 1100 else [], "id": "K9x" if number == 900 else 7}
        for number in range(1, 1201)
    ]
    data = check(tmp_path, *rows)
    assert (len(data.samples), data.faults) == (1200, ())
    (note,) = data.notes
    assert note.what == (
        "tools: string in 1,100 rows, list in 100 rows, first difference at row 1,101"
    )
    assert (note.rows, note.first) == (100, "d.jsonl:1101")


def test_a_class_as_number_and_as_text_is_one_class(tmp_path: Path) -> None:
    """B026: the rule is stated where both are met."""
    rows = [("late parcel", "1"), ("broken cup", 1), ("thanks", "praise")]
    data = check(tmp_path, *[{"text": text, "label": label} for text, label in rows])
    assert [label_of(sample) for sample in data.samples] == ["1", "1", "praise"]
    assert data.notes[0].what == (
        "label: string in 2 rows, integer in 1 row, first difference at row 2, "
        'and 1 and "1" are one class'
    )


def test_tags_that_are_missing_are_refused_and_the_rest_is_used(tmp_path: Path) -> None:
    """B028: five tokens and four tags."""
    tokens = ["Zagreb", "is", "in", "Croatia", "."]
    rows = [{"tokens": tokens, "tags": [1, 0, 0, 1, 0][:count]} for count in (5, 4)]
    data = check(tmp_path, *rows)
    (fault,) = data.faults
    assert (fault.line, fault.found) == (2, "5 tokens and 4 tags")


def test_merged_turns_are_used_and_counted(tmp_path: Path) -> None:
    """B011: three rows under merge; two under strict, with the roles of the third."""
    turns = [("user", "Hi"), ("user", "Are you there?"), ("assistant", "Yes.")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns]}
    strict = check(tmp_path, PAIR, row, PAIR)
    assert (len(strict.samples), strict.rows_with_faults) == (2, 1)
    assert "d.jsonl:2" in str(error_of(strict))
    assert "user,user,assistant" in str(error_of(strict))
    merged = check(tmp_path, PAIR, row, PAIR, turn_order="merge")
    assert len(merged.samples) == 3
    assert [(note.rows, note.first) for note in merged.notes] == [(1, "d.jsonl:2")]


def test_bad_rows_are_left_out_where_the_recipe_says_so(tmp_path: Path) -> None:
    data = check(tmp_path, PAIR, NO_REPLY, PAIR, on_bad_row="drop")
    raise_faults([data])
    assert len(data.samples) == 2
    assert data.tally.dropped == [("d.jsonl:2", "no assistant reply")]


def test_a_file_without_a_usable_row_is_an_error_whatever_the_recipe_says(tmp_path: Path) -> None:
    """B013: the number of rows and the table of reasons."""
    text = str(error_of(check(tmp_path, *[NO_REPLY] * 3, on_bad_row="drop")))
    assert "0 of 3 rows usable (no assistant reply: 3)" in text
    prose = check(tmp_path, *[{"text": "Plain prose."}] * 3, on_bad_row="drop")
    assert "0 of 3 rows usable" in str(error_of(prose))
    missing = check_file(tmp_path / "x.jsonl", DataPart(train="x", on_bad_row="drop"), "chat")
    assert "does not exist" in str(error_of(missing))


def test_all_faults_are_counted_and_the_first_are_kept(tmp_path: Path) -> None:
    data = check(tmp_path, PAIR, *[NO_REPLY] * 1500)
    assert (len(data.faults), data.tally.num_faults, data.rows_with_faults) == (1000, 1500, 1500)
    assert "1 of 1,501 rows usable (no assistant reply: 1,500)" in str(error_of(data))
    assert "1,501 faults" in str(error_of(data))


def test_parts_of_a_file_come_to_the_same_as_the_whole(tmp_path: Path) -> None:
    rows = [PAIR, NO_REPLY, {**PAIR, "tools": "[]"}, {**PAIR, "tools": [], "id": 1}, {"a": 1}]
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    part = DataPart(train=str(path))
    read = list(read_rows(path))
    judgement = pickle.loads(pickle.dumps(judge(read, part, "chat", file=str(path))))
    whole = RowChecker(judgement, part)
    parts = [RowChecker(judgement, part) for _ in range(3)]
    for number, row in enumerate(read):
        whole.check(row)
        parts[number // 2].check(row)
    merged = Tally()
    for one in parts:
        merged.merge(pickle.loads(pickle.dumps(one.tally)))
    assert merged == whole.tally
    assert merged.notes == whole.tally.notes


def test_the_faults_of_the_row_just_checked_are_at_hand() -> None:
    part = DataPart(train="d.jsonl")
    rows = [Row("d.jsonl", 1, PAIR, 1), Row("d.jsonl", 2, NO_REPLY, 2)]
    checker = RowChecker(judge(rows, part, "chat", file="d.jsonl"), part)
    seen = [(checker.check(row) is not None, len(checker.last_faults)) for row in rows]
    assert seen == [(True, 0), (False, 1)]


def test_how_files_are_read_and_what_is_passed_over_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tunes.abc"
    path.write_text("% a book\nX:1\nK:C\nabc\n\nX:2\nK:C\ncba\n")
    data = check_file(path, DataPart(train=str(path)), "completion")
    assert (data.format, data.rows_read) == ("text", 2)
    (note,) = data.notes
    assert note.what.endswith("passed over")
    whole = DataPart(train=str(path), documents="file")
    assert check_file(path, whole, "completion").rows_read == 1
    nested = tmp_path / "d.json"
    nested.write_text(json.dumps({"meta": [1], "result": {"rows": [PAIR, PAIR]}}))
    part = DataPart(train=str(nested), rows_at="result.rows")
    assert check_file(nested, part, "chat").rows_read == 2


def test_control_tokens_in_a_text_are_told(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"a {text} b"}, *PAIR["messages"][1:]]}
            for text in ("x < y [1]", "<|im_end|>", "</s>", "<|im_end|>")]  # fmt: skip
    data = check(tmp_path, *rows)
    assert [(note.what, note.rows, note.first) for note in data.notes] == [
        ("a control token written in a text, such as <|im_end|>", 2, "d.jsonl:2"),
        ("a control token written in a text, such as </s>", 1, "d.jsonl:3"),
    ]


def test_keys_inside_messages_that_mean_nothing_are_listed(tmp_path: Path) -> None:
    turns = [{**PAIR["messages"][0], "time": 5}, PAIR["messages"][1]]
    assert check(tmp_path, {"messages": turns}).ignored_columns == (("messages[].time", 1),)


def test_a_column_that_the_form_does_not_read_is_an_error(tmp_path: Path) -> None:
    columns = ColumnMap(messages="messages", label="id")
    text = str(error_of(check(tmp_path, {**PAIR, "id": "x"}, format="messages", columns=columns)))
    assert "form messages reads no column label" in text


def test_nested_columns_and_those_inside_answers_are_found(tmp_path: Path) -> None:
    row = {"q": "Where?", "c": "In Bled.", "a": {"text": ["Bled"], "at": [3]}}
    columns = ColumnMap(
        question="q", context="c", answers="a", answer_text="text", answer_start="at"
    )
    assert check(tmp_path, row, columns=columns).format == "qa"
    row = {"pair": {"en": "a", "de": "b"}}
    columns = ColumnMap(source="pair.en", target="pair.de")
    assert check(tmp_path, row, columns=columns).format == "translation"
    columns = ColumnMap(source="pair.en", target="pair.fr")
    assert 'no column "pair.fr"' in str(error_of(check(tmp_path, row, columns=columns)))


def test_likely_columns_are_proposed(tmp_path: Path) -> None:
    row = {"Type": "x", "Question": "q", "Best Answer": "a", "Source": "s"}
    assert "{prompt: Question, completion: Best Answer}" in str(error_of(check(tmp_path, row)))


def test_checking_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; import tunesmith.data.validate, tunesmith.data.row_hash, tunesmith.data.pack, "
        "tunesmith.data.xray.build, tunesmith.data.pipeline; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_fault_names_the_task_as_the_recipe_does(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "a"}\n')
    (fault,) = check_file(path, DataPart(train=str(path)), "classification-head").faults
    assert fault.expected == "a form for task classification: classification"


def test_a_column_that_is_not_there_is_named_in_the_columns_or_the_form_is_another(
    tmp_path: Path,
) -> None:
    data = check(tmp_path, {"prompt": "a", "completoin": "b"}, format="prompt-completion")
    (fault,) = data.faults
    assert fault.fix == (
        'did you mean "completoin"? Set data.columns.completion; or, if the rows are not of form '
        "prompt-completion, set data.format"
    )
