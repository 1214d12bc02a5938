from __future__ import annotations

import pytest

from tunesmith.data.conversation import Conversation, Message, PlainText, ToolCall
from tunesmith.tasks.ask import until_last_call
from tunesmith.tasks.scores.score import score
from tunesmith.tasks.scores.tool_calls import TOOL_CALL, calls_in

WANTED = '<tool_call>{"name": "weather", "arguments": {"city": "Bled", "days": 2}}</tool_call>'


@pytest.mark.parametrize(
    "said",
    [
        WANTED,
        'Let me look. {"arguments": {"days": 2, "city": "Bled"}, "name": "weather"}',
        '{"name": "weather", "parameters": {"city": "Bled", "days": 2}}',
        '{"name": "weather", "arguments": "{\\"city\\": \\"Bled\\", \\"days\\": 2}"}',
        'broken { here, then {"name": "weather", "arguments": {"city": "Bled", "days": 2}}',
    ],
)
def test_the_same_call_is_right_however_it_is_written(said: str) -> None:
    assert score(TOOL_CALL, [said], [WANTED]).value == 1


@pytest.mark.parametrize(
    "said",
    [
        "It rains in Bled.",
        WANTED.replace("Bled", "Bern"),
        WANTED.replace("weather", "news"),
        WANTED.replace("2", "2.5"),
        WANTED + WANTED,
        WANTED[:-14],
    ],
)
def test_another_call_is_wrong(said: str) -> None:
    assert score(TOOL_CALL, [said], [WANTED]).value == 0


def test_no_call_is_right_where_none_is_wanted_and_the_details_say_where_it_fails() -> None:
    said = ["Hello.", WANTED, WANTED.replace("Bled", "Bern"), "Sorry."]
    right = ["Good day.", "Good day.", WANTED, WANTED]
    found = score(TOOL_CALL, said, right)
    assert found.value == 0.25
    assert found.details == {
        "a call where one is wanted": 0.5,
        "the right function": 0.5,
        "the right arguments, too": 0.0,
        "a call where none is wanted": 0.5,
    }


def test_objects_that_are_no_calls_are_passed_over() -> None:
    assert calls_in('{"name": "Ada"} {"arguments": {}} [1, {"a": 2}] {') == []


def test_a_conversation_is_asked_up_to_its_last_call() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("f", "{}"),))
    turns = (Message("user", "a"), call, Message("tool", "b"), Message("assistant", "c"))
    sample = until_last_call(Conversation(messages=turns))
    assert isinstance(sample, Conversation)
    assert sample.messages == turns[:2]
    without = Conversation(messages=(turns[0], turns[3]))
    assert until_last_call(without) is without
    text = PlainText(text="a")
    assert until_last_call(text) is text
