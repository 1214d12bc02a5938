from __future__ import annotations

import random

import pytest

from tunesmith.data.conversation import (
    Conversation,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
    ToolCall,
)
from tunesmith.data.split import (
    content_hash,
    count_overlap,
    remove_duplicates,
    split_by_hash,
    whole_hash,
)


def texts(*contents: str) -> list[Sample]:
    return [PlainText(text=text, line=line) for line, text in enumerate(contents, start=1)]


def talk(reply: str, weight: float | None = None) -> Conversation:
    return Conversation(messages=(Message("user", "q"), Message("assistant", reply, weight)))


def test_the_first_of_equal_rows_is_kept_in_its_place() -> None:
    distinct = remove_duplicates(texts("a", "x", "b", "c", "x", "x", "d", "e", "x", "f"))
    assert distinct.duplicates == 3
    assert [sample.line for sample in distinct.samples] == [1, 2, 3, 4, 7, 8, 10]


def test_rows_that_differ_in_weight_are_two_rows_on_one_side() -> None:
    assert remove_duplicates([talk("a", 0), talk("a", 1), talk("a")]).duplicates == 0
    assert content_hash(talk("a", 0)) == content_hash(talk("a", 1))


def test_the_border_between_two_texts_counts() -> None:
    first = PromptCompletion(prompt="ab", completion="c")
    assert content_hash(first) != content_hash(PromptCompletion(prompt="a", completion="bc"))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    samples = texts(*(f"row {n}" for n in range(200)))
    shuffled = random.Random(seed).sample(samples, len(samples))
    held_out = {content_hash(sample) for sample in split_by_hash(samples, 0.1).validation}
    assert {content_hash(one) for one in split_by_hash(shuffled, 0.1).validation} == held_out


def test_rows_added_later_move_no_other_row() -> None:
    few, many = texts(*map(str, range(100))), texts(*map(str, range(300)))
    before, after = split_by_hash(few, 0.2), split_by_hash(many, 0.2)
    held_out = {content_hash(sample) for sample in after.validation}
    assert {content_hash(sample) for sample in before.validation} <= held_out
    assert not {content_hash(sample) for sample in before.train} & held_out


def test_the_share_is_about_what_was_asked_for_and_nothing_is_lost() -> None:
    samples = texts(*map(str, range(2000)))
    split = split_by_hash(samples, 0.1)
    assert 160 <= len(split.validation) <= 240
    assert sorted(one.line for one in (*split.train, *split.validation)) == list(range(1, 2001))


@pytest.mark.parametrize("share", [1e-9, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_no_side_is_empty_from_two_rows_on(share: float, count: int) -> None:
    split = split_by_hash(texts(*map(str, range(count))), share)
    assert split.train
    assert split.validation


def test_one_row_is_on_one_side() -> None:
    split = split_by_hash(texts("a"), 0.1)
    assert len(split.train) + len(split.validation) == 1


def test_held_out_rows_that_are_also_trained_are_counted() -> None:
    assert count_overlap(texts("a", "b"), texts("b", "c")) == 1


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
        Conversation(messages=(*ASKED, *REPLY), label="a"),
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
