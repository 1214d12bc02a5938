from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.data.reading import chat, faults, good, only_fault, said
from tunesmith.data.conversation import PromptCompletion, ToolCall, role_sequence


def sharegpt(*turns: tuple[str, Any], **row: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": value} for who, value in turns], **row}


def test_sharegpt_calls_observations_and_tools_are_read() -> None:
    values = sharegpt(
        ("human", "time in Lima?"),
        ("function_call", '{"name": "clock", "arguments": {"zone": "Lima"}}'),
        ("observation", '{"time": "07:10"}'),
        ("gpt", "It is 07:10."),
        system="be brief",
        tools='[{"name": "clock", "parameters": {}}]',
    )
    sample = chat(values)
    assert role_sequence(sample.messages) == "system,user,assistant,tool,assistant"
    assert sample.messages[2].tool_calls == (ToolCall("clock", '{"zone":"Lima"}'),)
    assert sample.messages[2].content == ""
    assert sample.tools == ('{"name":"clock","parameters":{}}',)


def test_a_sharegpt_turn_may_hold_several_calls() -> None:
    calls = [{"name": "a", "arguments": {}}, {"name": "b", "arguments": '{"x": 1}'}]
    values = sharegpt(("human", "q"), ("function_call", json.dumps(calls)))
    assert [call.name for call in chat(values).messages[1].tool_calls] == ["a", "b"]


@pytest.mark.parametrize("value", ["{name: clock}", "clock", "[]", "4", None, '{"arguments": {}}'])
def test_a_sharegpt_call_that_is_none_is_a_fault(value: object) -> None:
    fault = only_fault(sharegpt(("human", "q"), ("function_call", value), ("gpt", "a")))
    assert fault.field.startswith("conversations[1].value")


@pytest.mark.parametrize("who", ["gpt", "bing", "chatgpt", "bard", "assistant"])
def test_every_word_for_the_model_is_read(who: str) -> None:
    assert said(chat(sharegpt(("human", "q"), (who, "a"))).messages)[1] == ("assistant", "a")


def test_a_first_word_of_the_model_is_out_of_order() -> None:
    fault = only_fault(sharegpt(("gpt", "hello"), ("human", "q"), ("gpt", "a")))
    assert "(roles assistant,user,assistant)" in fault.found


def test_a_system_column_and_a_system_turn_are_one_or_a_fault() -> None:
    turns = (("system", "s"), ("human", "q"), ("gpt", "a"))
    assert chat(sharegpt(*turns, system="s")) == chat(sharegpt(*turns))
    assert only_fault(sharegpt(*turns, system="t")).field == "system"


def test_messages_may_be_json_text_as_a_csv_file_has_them() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert chat({"messages": json.dumps(turns)}) == chat({"messages": turns})
    assert only_fault({"messages": json.dumps(turns)[:-1]}).reason == "not JSON"
    assert only_fault({"messages": "hello"}).found == "got string"


def test_prompt_and_completion_may_be_messages() -> None:
    earlier = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    values = {
        "prompt": [*earlier, {"role": "user", "content": "c"}],
        "completion": [{"role": "assistant", "content": "d"}],
    }
    sample = chat(values)
    assert [text for _, text in said(sample.messages)] == ["a", "b", "c", "d"]
    assert [turn.weight for turn in sample.messages] == [None, 0.0, None, None]


def test_messages_of_a_prompt_and_a_completion_keep_their_order() -> None:
    values = {"prompt": [{"role": "assistant", "content": "a"}], "completion": "b"}
    assert only_fault(values).reason == "wrong turn order"
    values = {"prompt": "a", "completion": [{"role": "user", "content": "b"}]}
    assert only_fault(values).reason == "no assistant reply"
    assert only_fault({"prompt": "a", "completion": []}).field == "completion"


def test_a_prompt_that_begins_with_a_bracket_is_a_text() -> None:
    values = {"prompt": "[1, 2] is what?", "completion": '[{"a": 1}]'}
    assert said(chat(values).messages) == [
        ("user", "[1, 2] is what?"), ("assistant", '[{"a": 1}]'),
    ]  # fmt: skip


def test_for_completion_prompts_are_texts() -> None:
    assert isinstance(good({"prompt": "a", "completion": "b"}, task="completion"), PromptCompletion)
    values = {"prompt": [{"role": "user", "content": "a"}], "completion": "b"}
    assert only_fault(values, task="completion").found == "got list"


def test_history_is_named_by_pair_and_side() -> None:
    values = {"instruction": "c", "output": "d", "history": [["a", "b\ud83d"], "x", ["y"]]}
    found = faults(values)
    assert [fault.field for fault in found] == ["history[0][1]", "history[1]", "history[2]"]
    assert [fault.found for fault in found[1:]] == ["got a string", "got a list of something else"]


def test_columns_under_other_names_and_inside_others() -> None:
    values = {"row": {"ask": "q", "answer": "a"}, "who": "be brief"}
    columns = {"prompt": "row.ask", "completion": "row.answer", "system": "who"}
    assert said(chat(values, columns=columns).messages) == [
        ("system", "be brief"), ("user", "q"), ("assistant", "a"),
    ]  # fmt: skip
    fault = only_fault({"row": {"ask": "q"}}, columns=columns)
    assert fault.field == "row.answer"
