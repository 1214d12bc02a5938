from __future__ import annotations

import pytest

from tunesmith.data.conversation import (
    Conversation,
    Labelled,
    Message,
    Preference,
    PromptCompletion,
    Sample,
    ToolCall,
)
from tunesmith.data.row_hash import (
    content_hash,
    whole_hash,
)


def talk(reply: str, weight: float | None = None) -> Conversation:
    return Conversation(messages=(Message("user", "q"), Message("assistant", reply, weight)))


def test_rows_that_differ_in_weight_are_two_rows_on_one_side() -> None:
    assert len({whole_hash(row) for row in (talk("a", 0), talk("a", 1), talk("a"))}) == 3
    assert content_hash(talk("a", 0)) == content_hash(talk("a", 1))


def test_the_border_between_two_texts_counts() -> None:
    first = PromptCompletion(prompt="ab", completion="c")
    assert content_hash(first) != content_hash(PromptCompletion(prompt="a", completion="bc"))


ASKED = (Message("user", "q"),)
REPLY = (Message("assistant", "a"),)
CALL = ToolCall("clock", "{}", "c1")


@pytest.mark.parametrize(
    "other",
    [
        Conversation(messages=(*ASKED, Message("assistant", "a", thinking="t"))),
        Conversation(messages=(*ASKED, Message("assistant", "a", tool_calls=(CALL,)))),
        Conversation(messages=(Message("user", "q", name="n"), *REPLY)),
        Conversation(messages=(*ASKED, *REPLY), tools=("{}",)),
        Conversation(
            messages=(*ASKED, *REPLY),
            labelled=Labelled(kind="classes", texts=("x",), labels=("a",)),
        ),
        Conversation(messages=(*ASKED, Message("tool", "a"))),
        Conversation(messages=(*ASKED, Message("tool", "a", tool_call_id="c1"))),
        Preference(prompt=ASKED, chosen=REPLY, rejected=None),
        Preference(prompt=ASKED, chosen=None, rejected=REPLY),
        Preference(prompt=ASKED, chosen=REPLY, rejected=REPLY),
    ],
)
def test_whatever_a_row_says_counts(other: Sample) -> None:
    plain = Conversation(messages=(*ASKED, *REPLY))
    assert content_hash(plain) != content_hash(other)
    assert whole_hash(plain) != whole_hash(other)


def test_the_two_sides_of_a_preference_are_told_apart() -> None:
    other = (Message("assistant", "b"),)
    one_way = Preference(prompt=ASKED, chosen=REPLY, rejected=other)
    assert content_hash(one_way) != content_hash(
        Preference(prompt=ASKED, chosen=other, rejected=REPLY)
    )
