from __future__ import annotations

from typing import Any

import pytest

from tunesmith.data.conversation import Conversation, Message, PlainText, PromptCompletion
from tunesmith.data.formats import FormatName, TaskName, find_format, to_sample
from tunesmith.data.rows import Row, RowFault


def read(
    values: dict[str, Any],
    form: FormatName,
    task: TaskName = "chat",
    columns: dict[str, str] | None = None,
) -> Any:
    return to_sample(Row("d.jsonl", 3, values, 1), form, task, columns)


def turns(sample: object) -> list[tuple[str, str, float | None]]:
    assert isinstance(sample, Conversation), sample
    return [(m.role, m.content, m.weight) for m in sample.messages]


def faults(values: dict[str, Any], form: FormatName = "messages") -> list[RowFault]:
    found = read(values, form)
    assert isinstance(found, list), found
    return found


def chat(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"text of {role}"} for role in roles]}


@pytest.mark.parametrize(
    ("keys", "form"),
    [
        ({"messages", "id"}, "messages"), ({"conversations", "tools"}, "sharegpt"),
        ({"instruction", "input", "output"}, "alpaca"), ({"instruction", "output"}, "alpaca"),
        ({"prompt", "completion"}, "prompt-completion"), ({"text", "source"}, "text"),
        ({"question", "answer"}, None), ({"conversations", "chosen", "rejected"}, "preference"),
        (set(), None),
    ],
)  # fmt: skip
def test_the_form_is_found_from_the_columns(keys: set[str], form: str | None) -> None:
    assert find_format(dict.fromkeys(keys, "")) == form


def test_named_columns_make_a_form_of_other_names() -> None:
    columns = {"prompt": "question", "completion": "answer"}
    values = {"question": "q", "answer": "a"}
    assert find_format(values, columns) == "prompt-completion"
    sample = read(values, "prompt-completion", "completion", columns)
    assert (sample.prompt, sample.completion) == ("q", "a")


def test_a_sample_keeps_the_place_of_its_row() -> None:
    sample = read(chat("user", "assistant"), "messages")
    assert (sample.file, sample.line, sample.row_id) == ("d.jsonl", 3, "d.jsonl:3")


def test_messages_keep_their_weights() -> None:
    values = chat("system", "user", "assistant", "user", "assistant")
    values["messages"][2]["weight"] = 0
    values["messages"][4]["weight"] = 1.0
    values["messages"][1]["weight"] = 0
    assert [weight for _, _, weight in turns(read(values, "messages"))] == [
        None, 0.0, 0.0, None, 1.0,
    ]  # fmt: skip


def test_text_parts_read_the_same_as_a_text() -> None:
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    as_parts = {"messages": [{"role": "user", "content": parts}, *chat("assistant")["messages"]]}
    as_text = {
        "messages": [{"role": "user", "content": "What is this?"}, *chat("assistant")["messages"]]
    }
    assert turns(read(as_parts, "messages")) == turns(read(as_text, "messages"))


def test_a_part_that_is_no_text_is_named_by_message_part_and_type() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.invalid/a.png"}}
    values = {"messages": [{"role": "user", "content": [part]}, *chat("assistant")["messages"]]}
    (fault,) = faults(values)
    assert fault.field == "messages[0].content[0]"
    assert "image_url" in fault.found


def test_sharegpt_names_of_roles_are_read() -> None:
    values = {
        "system": "be brief",
        "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}],
    }
    assert turns(read(values, "sharegpt")) == [
        ("system", "be brief", None), ("user", "hi", None), ("assistant", "ho", None),
    ]  # fmt: skip


def test_sharegpt_under_a_column_of_another_name() -> None:
    values = {"chat": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}
    assert len(turns(read(values, "messages", columns={"messages": "chat"}))) == 2


def test_alpaca_joins_instruction_and_input_with_a_line_break() -> None:
    values = {"instruction": "Add", "input": "1, 2", "output": "3"}
    assert turns(read(values, "alpaca")) == [("user", "Add\n1, 2", None), ("assistant", "3", None)]
    without = {"instruction": "Add", "input": "", "output": "3"}
    assert turns(read(without, "alpaca"))[0] == ("user", "Add", None)
    assert turns(read({**without, "input": None}, "alpaca"))[0] == ("user", "Add", None)


def test_alpaca_history_comes_before_the_question() -> None:
    values = {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "s"}
    assert [text for _, text, _ in turns(read(values, "alpaca"))] == ["s", "a", "b", "c", "d"]
    values["history"] = [["a"]]
    assert faults(values, "alpaca")[0].field == "history[0]"


def test_alpaca_as_completion_is_a_line_of_prompt_and_its_answer() -> None:
    sample = read({"instruction": "Add", "input": "1", "output": "3"}, "alpaca", "completion")
    assert isinstance(sample, PromptCompletion)
    assert (sample.prompt, sample.completion) == ("Add\n1\n", "3")


def test_prompt_and_completion_are_a_chat_or_are_joined_as_they_are() -> None:
    values = {"prompt": "2+3=", "completion": "5"}
    assert turns(read(values, "prompt-completion")) == [
        ("user", "2+3=", None), ("assistant", "5", None),
    ]  # fmt: skip
    sample = read(values, "prompt-completion", "completion")
    assert isinstance(sample, PromptCompletion)
    assert sample.prompt + sample.completion == "2+3=5"


def test_a_text_is_a_document() -> None:
    sample = read({"text": "Plain prose."}, "text", "completion")
    assert isinstance(sample, PlainText)
    assert sample.text == "Plain prose."


@pytest.mark.parametrize(
    ("roles", "reason", "sequence"),
    [
        (("system", "user"), "no assistant reply", "system,user"),
        (("user", "user", "assistant"), "wrong turn order", "user,user,assistant"),
        (("assistant", "user", "assistant"), "wrong turn order", "assistant,user,assistant"),
        (("user", "assistant", "user"), "wrong turn order", "user,assistant,user"),
        (("user", "system", "assistant"), "wrong turn order", "user,system,assistant"),
        (("user", "assistant", "assistant"), "wrong turn order", "user,assistant,assistant"),
        (("system", "assistant"), "wrong turn order", "system,assistant"),
    ],
)
def test_turns_out_of_order_are_reported_with_their_roles(
    roles: tuple[str, ...], reason: str, sequence: str
) -> None:
    (fault,) = faults(chat(*roles))
    assert fault.reason == reason
    assert f"(roles {sequence})" in fault.found


def test_an_empty_conversation_is_a_fault() -> None:
    (fault,) = faults({"messages": []})
    assert fault.reason == "empty messages"


@pytest.mark.parametrize(
    ("role", "near"),
    [("assistan", "assistant"), ("User", "user"), ("gpt", "assistant"), ("SYSTEM", "system")],
)
def test_an_unknown_role_names_the_allowed_ones_and_the_nearest(role: str, near: str) -> None:
    (fault,) = faults(chat("user", "assistant", role))
    assert role in fault.found
    assert "system, user, assistant" in fault.expected
    assert f'"{near}"' in fault.fix


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "got null"), (4, "got integer"), ({"a": 1}, "got object"), (" \n", "an empty text")],
)
def test_a_content_that_is_no_text_is_a_fault(content: object, found: str) -> None:
    values = chat("user", "assistant")
    values["messages"][1]["content"] = content
    (fault,) = faults(values)
    assert (fault.field, fault.found) == ("messages[1].content", found)


@pytest.mark.parametrize("weight", [2, 0.5, -1, "1", True, [1]])
def test_a_weight_other_than_0_or_1_is_a_fault(weight: object) -> None:
    values = chat("user", "assistant")
    values["messages"][1]["weight"] = weight
    (fault,) = faults(values)
    assert (fault.field, fault.expected) == ("messages[1].weight", "0 or 1")


def test_a_weight_of_1_on_a_message_that_is_not_trained_is_a_fault() -> None:
    values = chat("user", "assistant")
    values["messages"][0]["weight"] = 1
    assert faults(values)[0].reason == "wrong weight"


def test_a_lone_surrogate_is_a_fault_and_a_pair_is_a_character() -> None:
    values = chat("user", "assistant")
    values["messages"][0]["content"] = "ok \ud83d end"
    (fault,) = faults(values)
    assert "surrogate" in fault.found
    assert "\\ud83d at character 4" in fault.found
    fault.to_fault().found.encode("utf-8")
    values["messages"][0]["content"] = "\N{GRINNING FACE}"
    assert turns(read(values, "messages"))[0][1] == "\N{GRINNING FACE}"


def test_a_number_where_a_text_belongs_says_both_types() -> None:
    row = Row("d.json", 1, {"instruction": "Two plus two", "input": "", "output": 4}, 2, True)
    found = to_sample(row, "alpaca", "chat")
    assert isinstance(found, list)
    text = str(found[0].to_fault())
    assert "row 2, field output" in text
    assert "got integer, expected string" in text


def test_all_faults_of_a_row_are_found_at_once() -> None:
    values = {
        "messages": [
            {"role": "usr", "content": None},
            {"role": "assistant", "content": "", "weight": 3},
            "hello",
        ]
    }
    assert [fault.field for fault in faults(values)] == [
        "messages[0].role", "messages[0].content", "messages[1].content", "messages[1].weight",
        "messages[2]",
    ]  # fmt: skip


def test_messages_are_equal_by_what_they_say() -> None:
    assert Message("user", "a") == Message("user", "a", None)
