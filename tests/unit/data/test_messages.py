from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.data.reading import chat, faults, only_fault, read, said
from tunesmith.data.conversation import (
    ToolCall,
    as_template_input,
    role_sequence,
    tools_as_template_input,
)

CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "time",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
SUM = {
    "type": "function",
    "function": {"parameters": {"b": {"type": "number"}, "a": {"type": "number"}}, "name": "sum"},
}


def call(arguments: object = None, *, identity: str = "", name: str = "clock") -> dict[str, Any]:
    named = {"id": identity} if identity else {}
    arguments = {"zone": "Lima"} if arguments is None else arguments
    return {**named, "type": "function", "function": {"name": name, "arguments": arguments}}


def asked(*middle: dict[str, Any], **row: Any) -> dict[str, Any]:
    """Return a question, what comes in between, and an answer."""
    first, last = {"role": "user", "content": "q"}, {"role": "assistant", "content": "It is 07:10."}
    return {"messages": [first, *middle, last], **row}


def calling(arguments: object = None, **message: Any) -> dict[str, Any]:
    values = {"role": "assistant", "content": None, "tool_calls": [call(arguments)], **message}
    return asked(values, {"role": "tool", "content": "07:10"})


def turns(*roles: str) -> dict[str, Any]:
    return {
        "messages": [{"role": role, "content": f"{role} {at}"} for at, role in enumerate(roles)]
    }


def test_null_empty_and_absent_content_beside_a_call_are_the_same() -> None:
    absent = calling()
    del absent["messages"][1]["content"]
    samples = [chat(calling()), chat(calling(content="")), chat(absent)]
    assert samples[0] == samples[1] == samples[2]
    assert [len(sample.messages) for sample in samples] == [4, 4, 4]
    assert samples[0].messages[1].tool_calls == (ToolCall("clock", '{"zone":"Lima"}'),)


def test_null_content_without_a_call_is_a_fault() -> None:
    values = asked()
    values["messages"][1] |= {"content": None, "tool_calls": []}
    fault = only_fault(values)
    assert (fault.field, fault.found) == ("messages[1].content", "got null")


def test_arguments_as_object_and_as_text_are_the_same() -> None:
    assert chat(calling({"zone": "Lima", "n": 1})) == chat(calling('{"zone": "Lima",  "n": 1}'))


def test_a_template_is_given_what_the_row_says() -> None:
    sample = chat({**calling({"id": 123456789012345678901}), "tools": [SUM, {"max": 10**30}]})
    made = as_template_input(sample.messages)[1]["tool_calls"][0]["function"]
    assert made == {"name": "clock", "arguments": {"id": 123456789012345678901}}
    assert tools_as_template_input(sample.tools) == [SUM, {"max": 10**30}]


def test_arguments_keep_the_order_of_their_keys() -> None:
    (made,) = chat(calling({"b": 1, "a": {"d": 2.0, "c": "\u010d"}})).messages[1].tool_calls
    assert made.arguments == '{"b":1,"a":{"d":2.0,"c":"\u010d"}}'


def test_broken_arguments_name_the_tool_and_the_field() -> None:
    fault = only_fault(calling("{zone: Lima"))
    assert fault.field == "messages[1].tool_calls[0].function.arguments"
    assert '"clock"' in fault.found
    assert "column 2" in fault.found
    assert fault.line == 3


@pytest.mark.parametrize(
    ("arguments", "found"),
    [([1], "a list"), ('"x"', "a string"), ("7", "an integer"), (4, "an integer")],
)
def test_arguments_are_an_object(arguments: object, found: str) -> None:
    assert found in only_fault(calling(arguments)).found


def test_arguments_with_a_key_twice_or_no_number_are_faults() -> None:
    assert "written twice" in only_fault(calling('{"a": 1, "a": 2}')).found
    assert "NaN" in only_fault(calling('{"a": NaN}')).found
    assert only_fault(calling({"a": float("nan")})).reason == "not JSON"


@pytest.mark.parametrize("arguments", ["", {}, "{}"])
def test_a_call_may_have_no_arguments(arguments: object) -> None:
    (made,) = chat(calling(arguments)).messages[1].tool_calls
    assert made.arguments == "{}"


def test_a_lone_surrogate_in_a_tool_or_its_arguments_is_a_fault() -> None:
    assert "surrogate" in only_fault(calling({"a\ud83d": 1})).found
    assert "surrogate" in only_fault(calling(r'{"a": "\ud83d"}')).found
    assert "surrogate" in only_fault(asked(tools=[{"name": "\ud83d"}])).found


def test_the_older_function_call_is_read() -> None:
    values = asked(
        {"role": "assistant", "function_call": {"name": "clock", "arguments": "{}"}},
        {"role": "function", "name": "clock", "content": "07:10"},
    )
    sample = chat(values)
    assert role_sequence(sample.messages) == "user,assistant,tool,assistant"
    assert sample.messages[1].tool_calls == (ToolCall("clock", "{}"),)
    assert sample.messages[2].name == "clock"


def test_a_call_without_a_function_around_it_is_read() -> None:
    values = calling(tool_calls=[{"name": "clock", "arguments": {"zone": "Lima"}}])
    assert chat(values) == chat(calling())


@pytest.mark.parametrize(
    ("calls", "field", "reason"),
    [
        ([{"type": "function", "function": {"arguments": "{}"}}],
         "messages[1].tool_calls[0].function.name", "wrong tool call"),
        (["clock"], "messages[1].tool_calls[0]", "wrong type"),
        ({"name": "clock"}, "messages[1].tool_calls", "wrong type"),
        ([{"type": "retrieval"}], "messages[1].tool_calls[0].type", "wrong tool call"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_named(calls: object, field: str, reason: str) -> None:
    found = [(fault.field, fault.reason) for fault in faults(calling(tool_calls=calls))]
    assert (field, reason) in found


def test_only_the_assistant_calls_tools() -> None:
    values = asked()
    values["messages"][0]["tool_calls"] = [call()]
    assert only_fault(values).field == "messages[0].tool_calls"


def test_ids_join_calls_and_results() -> None:
    result = {"role": "tool", "content": "07:10", "tool_call_id": "c2"}
    caller = {"role": "assistant", "tool_calls": [call(identity="c1"), call(identity="c2")]}
    assert chat(asked(caller, result)).messages[2].tool_call_id == "c2"
    fault = only_fault(asked(caller, {**result, "tool_call_id": "c3"}))
    assert fault.field == "messages[2].tool_call_id"
    assert '"c3"' in fault.found
    assert '"c1", "c2"' in fault.expected


def test_a_result_without_a_call_is_a_fault() -> None:
    fault = only_fault(asked({"role": "tool", "content": "07:10"}))
    assert fault.field == "messages[1]"
    assert fault.found == "a tool result without a call (roles user,tool,assistant)"


def test_several_results_may_follow_and_one_may_be_empty() -> None:
    values = calling()
    values["messages"].insert(3, {"role": "tool", "content": ""})
    assert role_sequence(chat(values).messages) == "user,assistant,tool,tool,assistant"


def test_a_conversation_that_ends_with_a_call_is_whole() -> None:
    values = calling()
    values["messages"] = values["messages"][:2]
    assert chat(values).messages[-1].tool_calls
    values["messages"].append({"role": "tool", "content": "x"})
    assert "the last message is the tool's" in only_fault(values).found


def test_tools_stay_as_their_author_wrote_them() -> None:
    as_list = chat(asked(tools=[SUM, CLOCK])).tools
    assert [json.loads(tool) for tool in as_list] == [SUM, CLOCK]
    assert list(json.loads(as_list[0])["function"]) == ["parameters", "name"]
    assert "zone" not in as_list[0]
    assert chat(asked(tools=json.dumps([SUM, CLOCK]))).tools == as_list
    assert chat(asked(functions=[json.dumps(SUM), CLOCK])).tools == as_list


@pytest.mark.parametrize("tools", [None, "", "[]", []])
def test_no_tools_are_no_tools(tools: object) -> None:
    assert chat(asked(tools=tools)).tools == ()


@pytest.mark.parametrize(
    ("tools", "field"),
    [("[{", "tools"), ({"a": 1}, "tools"), ([4], "tools[0]"), (["x"], "tools[0]"), (7, "tools")],
)
def test_tools_of_another_shape_are_a_fault(tools: object, field: str) -> None:
    assert only_fault(asked(tools=tools)).field == field


def test_thinking_is_kept_apart_under_each_of_its_names() -> None:
    for key in ("reasoning_content", "reasoning", "thinking"):
        values = asked()
        values["messages"][1][key] = "hm"
        assert chat(values).messages[1].thinking == "hm"


def test_two_texts_of_reasoning_and_reasoning_of_a_user_are_faults() -> None:
    values = asked()
    values["messages"][1] |= {"reasoning": "a", "thinking": "b"}
    assert only_fault(values).reason == "two texts of reasoning"
    values = asked()
    values["messages"][0]["reasoning"] = "a"
    assert only_fault(values).field == "messages[0].reasoning"


def test_names_and_other_words_for_roles_are_read() -> None:
    values = turns("developer", "user", "assistant")
    values["messages"][1]["name"] = "ann"
    sample = chat(values)
    assert role_sequence(sample.messages) == "system,user,assistant"
    assert sample.messages[1].name == "ann"


def test_keys_of_a_message_that_mean_nothing_are_told() -> None:
    values = asked(parallel_tool_calls=False)
    values["messages"][0] |= {"time": 5, "weight": None, "refusal": None}
    assert read(values).unread == {"messages[].time"}


def test_a_part_of_another_kind_is_named() -> None:
    values = asked()
    values["messages"][0]["content"] = [{"type": "image_url", "image_url": {"url": "x"}}]
    fault = only_fault(values)
    assert (fault.line, fault.field) == (3, "messages[0].content[0]")
    assert '"image_url"' in fault.found


def test_strict_order_names_the_roles_and_the_way_out() -> None:
    fault = only_fault(turns("user", "user", "assistant"))
    assert "user,user,assistant" in fault.found
    assert "data.turn_order: merge" in fault.fix


def test_merge_joins_neighbours_with_a_blank_line() -> None:
    values = turns("system", "system", "user", "user", "assistant", "assistant")
    result = read(values, turn_order="merge")
    sample = chat(values, turn_order="merge")
    assert said(sample.messages) == [
        ("system", "system 0\n\nsystem 1"),
        ("user", "user 2\n\nuser 3"),
        ("assistant", "assistant 4\n\nassistant 5"),
    ]
    assert result.notes == ("neighbouring turns of one role, joined with a blank line",)


def test_merge_leaves_good_turns_alone() -> None:
    values = calling()
    assert chat(values, turn_order="merge") == chat(values)
    assert read(values, turn_order="merge").notes == ()


def test_merge_joins_a_text_and_the_call_after_it() -> None:
    values = calling()
    values["messages"].insert(1, {"role": "assistant", "content": "Let me see."})
    sample = chat(values, turn_order="merge")
    assert role_sequence(sample.messages) == "user,assistant,tool,assistant"
    assert sample.messages[1].content == "Let me see."
    assert sample.messages[1].tool_calls


@pytest.mark.parametrize(
    "roles", [("user", "assistant", "user", "user"), ("assistant", "user", "assistant"),
              ("user", "system", "assistant")],
)  # fmt: skip
def test_merge_makes_up_no_reply_and_moves_no_turn(roles: tuple[str, ...]) -> None:
    assert only_fault(turns(*roles), turn_order="merge").reason == "wrong turn order"


def test_merge_joins_no_two_weights() -> None:
    values = turns("user", "assistant", "assistant")
    values["messages"][1]["weight"] = 0
    assert only_fault(values, turn_order="merge").reason == "wrong turn order"


def test_joined_speakers_lose_their_names_and_it_is_told() -> None:
    values = turns("user", "user", "assistant")
    values["messages"][0]["name"] = "ann"
    assert "joined turns of two speakers, whose names are left out" in (
        read(values, turn_order="merge").notes
    )


def test_long_conversations_do_not_flood_an_error() -> None:
    fault = only_fault(turns(*["user", "assistant"] * 100, "user"))
    assert len(fault.found) < 500
