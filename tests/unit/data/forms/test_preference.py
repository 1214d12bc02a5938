from __future__ import annotations

from typing import Any

import pytest

from tests.unit.data.reading import faults, only_fault, preference, read, said
from tunesmith.data.formats import find_format

USER = {"role": "user", "content": "q"}
SYSTEM = {"role": "system", "content": "s"}


def reply(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PLAIN: dict[str, Any] = {"prompt": "q", "chosen": "good", "rejected": "bad"}
SAME = [
    PLAIN,
    {"prompt": [USER], "chosen": [reply("good")], "rejected": [reply("bad")]},
    {"prompt": "q", "chosen": reply("good"), "rejected": reply("bad")},
    {"prompt": "q", "chosen": [USER, reply("good")], "rejected": [USER, reply("bad")]},
    {"chosen": [USER, reply("good")], "rejected": [USER, reply("bad")]},
    {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    {
        "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [reply("good")],
        "non_preferred_output": [reply("bad")],
    },
    {
        "input": {"messages": [USER]},
        "preferred_completion": [reply("good")],
        "non_preferred_completion": [reply("bad")],
    },
    {"messages": [USER], "chosen_messages": [reply("good")], "rejected_messages": [reply("bad")]},
    {"messages": [USER, reply("good")], "rejected_messages": [USER, reply("bad")]},
    {"messages": [USER, reply("good")], "rejected_response": "bad"},
    {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
]


@pytest.mark.parametrize("values", SAME)
def test_all_ways_to_write_a_pair_are_the_same_pair(values: dict[str, Any]) -> None:
    assert find_format(values) == "preference"
    assert preference(values) == preference(PLAIN)
    assert read(values).unread == set()


def test_a_pair_has_a_prompt_and_two_answers() -> None:
    sample = preference(PLAIN)
    assert sample.chosen is not None
    assert sample.rejected is not None
    assert [said(side) for side in (sample.prompt, sample.chosen, sample.rejected)] == [
        [("user", "q")], [("assistant", "good")], [("assistant", "bad")],
    ]  # fmt: skip


def test_a_system_message_is_taken_from_wherever_it_is() -> None:
    expected = [("system", "s"), ("user", "q")]
    for values in (
        {**PLAIN, "system": "s"},
        {**PLAIN, "prompt": [SYSTEM, USER]},
        {
            "prompt": "q",
            "chosen": [SYSTEM, USER, reply("a")],
            "rejected": [SYSTEM, USER, reply("b")],
        },
        {"prompt": [SYSTEM, USER], "chosen": [USER, reply("a")], "rejected": [USER, reply("b")]},
    ):
        assert said(preference(values).prompt) == expected


def test_tools_of_the_input_are_kept() -> None:
    values = {**SAME[6], "input": {"messages": [USER], "tools": [{"name": "clock"}], "store": 1}}
    assert preference(values).tools == ('{"name":"clock"}',)
    assert read(values).unread == {"input.store"}


def test_answers_may_be_several_turns() -> None:
    call = {"role": "assistant", "tool_calls": [{"name": "clock", "arguments": {}}]}
    longer = [call, {"role": "tool", "content": "7"}, reply("It is 7.")]
    sample = preference({"prompt": "q", "chosen": longer, "rejected": "bad"})
    assert sample.chosen is not None
    assert [turn.role for turn in sample.chosen] == ["assistant", "tool", "assistant"]


@pytest.mark.parametrize("empty", [[], "", " ", None])
def test_an_empty_answer_is_named(empty: object) -> None:
    fault = only_fault({**PLAIN, "rejected": empty})
    assert (fault.reason, fault.field) == ("empty rejected", "rejected")
    assert only_fault({**PLAIN, "chosen": empty}).reason == "empty chosen"


def test_an_empty_list_under_another_name_is_named_by_it() -> None:
    fault = only_fault({"messages": [USER, reply("a")], "rejected_messages": []})
    assert (fault.reason, fault.field) == ("empty rejected", "rejected_messages")


def test_an_answer_that_is_only_the_prompt_is_empty() -> None:
    assert only_fault({**PLAIN, "rejected": [USER]}).reason == "empty rejected"


@pytest.mark.parametrize(
    ("values", "field", "reason"),
    [
        ({**PLAIN, "chosen": 4}, "chosen", "wrong type"),
        ({**PLAIN, "chosen": [{"role": "assistant", "content": 4}]}, "chosen[0].content",
         "wrong type"),
        ({**PLAIN, "chosen": [{"role": "user", "content": "z"}, reply("a")]}, "chosen",
         "two prompts in one row"),
        ({**PLAIN, "prompt": [USER, reply("a")]}, "prompt", "wrong turn order"),
        ({**PLAIN, "prompt": []}, "prompt", "empty messages"),
        ({**PLAIN, "prompt": " "}, "prompt", "empty text"),
        ({**PLAIN, "chosen": [reply("a"), USER]}, "chosen", "wrong turn order"),
        ({"chosen": "a", "rejected": "b"}, "chosen", "no prompt"),
        ({"input": {}, "preferred_output": [], "non_preferred_output": []}, "preferred_output",
         "empty chosen"),
    ],
)  # fmt: skip
def test_a_fault_of_a_pair_is_named(values: dict[str, Any], field: str, reason: str) -> None:
    assert (field, reason) in [(fault.field, fault.reason) for fault in faults(values)]


def test_equal_answers_are_told() -> None:
    assert read({**PLAIN, "rejected": "good"}).notes == (
        "a chosen answer that equals the rejected one",
    )


RATED = [
    ({"prompt": "q", "completion": "a", "label": True}, True),
    ({"prompt": [USER], "completion": [reply("a")], "label": False}, False),
    ({"prompt": "q", "completion": "a", "label": "True"}, True),
    ({"messages": [USER, reply("a")], "kto_tag": False}, False),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
      "kto_tag": True}, True),
    ({"instruction": "q", "output": "a", "kto_tag": True}, True),
]  # fmt: skip


@pytest.mark.parametrize(("values", "is_good"), RATED)
def test_a_rated_answer_has_one_side(values: dict[str, Any], is_good: bool) -> None:
    sample = preference(values)
    side, other = sample.chosen, sample.rejected
    if not is_good:
        side, other = other, side
    assert other is None
    assert side is not None
    assert (said(sample.prompt), said(side)) == ([("user", "q")], [("assistant", "a")])


def test_a_rating_is_true_or_false() -> None:
    fault = only_fault({"messages": [USER, reply("a")], "kto_tag": 0.5})
    assert (fault.field, fault.expected) == ("kto_tag", "true or false")


def test_a_label_that_is_no_rating_makes_no_preference() -> None:
    assert find_format({"prompt": "q", "completion": "a", "label": "maths"}) == "prompt-completion"
    assert find_format({"messages": [], "label": 3}) == "messages"
