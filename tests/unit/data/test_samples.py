"""The sample data keeps the promises of its README.md; every number there is asserted here."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.samples import FILES, sample_path

INTENTS = (
    "order_status",
    "cancel_order",
    "refund",
    "exchange",
    "damaged_item",
    "product_question",
    "billing",
    "compliment",
)
URGENCIES = ("low", "normal", "high")
PRODUCTS = (
    "backpack",
    "blanket",
    "blender",
    "coffee grinder",
    "desk lamp",
    "frying pan",
    "kettle",
    "keyboard",
    "notebook",
    "rain jacket",
    "speaker",
    "teapot",
    "tent",
    "toaster",
    "umbrella",
    "wall clock",
    "water bottle",
    "yoga mat",
)

MAX_SHARED_TRIGRAMS = 0.2  # Jaccard similarity of the sets of three words in a row
MAX_SHARED_RUN = 6  # words in a row that two messages may have in common


@dataclass(frozen=True)
class SampleRow:
    system: str
    message: str
    answer: str

    @property
    def labels(self) -> dict[str, str | None]:
        return json.loads(self.answer)

    @property
    def intent(self) -> str:
        return str(self.labels["intent"])


@cache
def rows_of(name: str) -> tuple[SampleRow, ...]:
    lines = sample_path(name).read_text(encoding="utf-8").splitlines()
    return tuple(to_row(json.loads(line)) for line in lines)


def to_row(values: dict[str, list[dict[str, str]]]) -> SampleRow:
    assert list(values) == ["messages"]
    assert [message["role"] for message in values["messages"]] == ["system", "user", "assistant"]
    return SampleRow(*(message["content"] for message in values["messages"]))


def train_rows() -> tuple[SampleRow, ...]:
    return rows_of("support-desk")


def held_out_rows() -> tuple[SampleRow, ...]:
    return rows_of("support-desk-held-out")


def all_rows() -> tuple[SampleRow, ...]:
    return train_rows() + held_out_rows()


@cache
def words_of(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9']+", text.lower()))


@cache
def word_runs(text: str, length: int) -> frozenset[tuple[str, ...]]:
    words = words_of(text)
    return frozenset(words[i : i + length] for i in range(len(words) - length + 1))


def shared_trigrams(one: str, other: str) -> float:
    common = len(word_runs(one, 3) & word_runs(other, 3))
    return common / len(word_runs(one, 3) | word_runs(other, 3)) if common else 0.0


def too_alike(pairs: Iterable[tuple[SampleRow, SampleRow]]) -> list[tuple[str, str]]:
    return [
        (one.message, other.message)
        for one, other in pairs
        if shared_trigrams(one.message, other.message) > MAX_SHARED_TRIGRAMS
        or word_runs(one.message, MAX_SHARED_RUN + 1) & word_runs(other.message, MAX_SHARED_RUN + 1)
    ]


def named_products(message: str) -> list[str]:
    return [name for name in PRODUCTS if re.search(rf"\b{name}s?\b", message.lower())]


def intents_by_word(rows: Iterable[SampleRow]) -> dict[str, Counter[str]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for word in set(words_of(row.message)):
            counts[word][row.intent] += 1
    return counts


def test_there_are_enough_rows_of_each_kind() -> None:
    assert len(train_rows()) >= 400
    assert len(held_out_rows()) >= 100


@pytest.mark.parametrize("name", FILES)
def test_files_are_ascii_with_one_compact_row_a_line(name: str) -> None:
    text = sample_path(name).read_text(encoding="utf-8")
    assert text.isascii()
    assert text.endswith("}\n")
    assert all(
        line == json.dumps(json.loads(line), separators=(",", ":")) for line in text.splitlines()
    )


def test_all_rows_have_the_same_instruction_and_it_does_not_give_the_schema_away() -> None:
    (system,) = {row.system for row in all_rows()}
    mentioned = set(words_of(system))
    assert not mentioned & {"intent", "urgency", "product", *URGENCIES}
    assert not any(name.replace("_", " ") in system.lower() for name in (*INTENTS, *PRODUCTS))


def test_every_message_is_one_line_and_occurs_once() -> None:
    messages = [row.message for row in all_rows()]
    assert len(set(messages)) == len(messages)
    assert all(message == message.strip() and "\n" not in message for message in messages)


def test_every_answer_is_one_compact_line_of_exactly_three_labels() -> None:
    for row in all_rows():
        assert "\n" not in row.answer
        assert row.answer == json.dumps(row.labels, separators=(",", ":"))
        assert list(row.labels) == ["intent", "urgency", "product"]
        assert row.labels["intent"] in INTENTS
        assert row.labels["urgency"] in URGENCIES


def test_product_is_the_one_catalogue_product_named_in_the_message() -> None:
    for row in all_rows():
        label = row.labels["product"]
        assert named_products(row.message) == ([] if label is None else [label]), row.message


def test_every_product_is_named_in_both_files() -> None:
    for rows in (train_rows(), held_out_rows()):
        assert {row.labels["product"] for row in rows} == {*PRODUCTS, None}


@pytest.mark.parametrize("name", FILES)
def test_labels_are_balanced(name: str) -> None:
    rows = rows_of(name)
    intents = Counter(row.intent for row in rows)
    urgencies = Counter(row.labels["urgency"] for row in rows)
    without_product = sum(row.labels["product"] is None for row in rows)
    assert all(0.11 <= intents[intent] / len(rows) <= 0.14 for intent in INTENTS), intents
    assert all(urgencies[urgency] / len(rows) >= 0.2 for urgency in URGENCIES), urgencies
    assert 0.2 <= without_product / len(rows) <= 0.25


def test_a_compliment_never_asks_for_haste() -> None:
    urgencies = {row.labels["urgency"] for row in all_rows() if row.intent == "compliment"}
    assert urgencies == {"low"}


def test_every_other_intent_comes_with_every_urgency_and_without_a_product() -> None:
    for rows in (train_rows(), held_out_rows()):
        seen = {(row.intent, row.labels["urgency"]) for row in rows}
        assert seen >= set(product(set(INTENTS) - {"compliment"}, URGENCIES))
        assert {row.intent for row in rows if row.labels["product"] is None} == set(INTENTS)


def test_no_held_out_message_resembles_a_training_message() -> None:
    assert too_alike(product(held_out_rows(), train_rows())) == []


def test_no_two_training_messages_resemble_each_other() -> None:
    assert too_alike(combinations(train_rows(), 2)) == []


def test_no_word_belongs_to_one_intent_alone_and_marks_half_of_it() -> None:
    sizes = Counter(row.intent for row in all_rows())
    for word, intents in intents_by_word(all_rows()).items():
        intent, count = intents.most_common(1)[0]
        assert len(intents) > 1 or count / sizes[intent] <= 0.2, (word, intent, count)


def test_the_most_telling_word_of_a_message_does_not_give_its_intent() -> None:
    intents = intents_by_word(train_rows())

    def confidence(word: str) -> tuple[float, str]:
        """How sure a word is of its majority intent, add-one smoothed, ties by the alphabet."""
        counts = intents[word]
        return (max(counts.values()) + 1) / (counts.total() + len(INTENTS)), word

    def guess(message: str) -> str:
        known = (word for word in words_of(message) if word in intents)
        return intents[max(known, key=confidence)].most_common(1)[0][0]

    hits = sum(guess(row.message) == row.intent for row in held_out_rows())
    assert hits / len(held_out_rows()) < 0.6


def test_a_bag_of_words_gets_neither_the_intent_nor_the_urgency_right_throughout() -> None:
    assert share_named_by_bag_of_words("intent") < 0.75
    assert share_named_by_bag_of_words("urgency") < 0.8


def share_named_by_bag_of_words(label: str) -> float:
    """Accuracy on the held-out rows of multinomial naive Bayes, add-one smoothed."""
    sizes = Counter(row.labels[label] for row in train_rows())
    words = {name: Counter[str]() for name in sizes}
    for row in train_rows():
        words[row.labels[label]].update(words_of(row.message))
    vocabulary = len(set().union(*words.values()))

    def score(name: str | None, message: str) -> float:
        total = words[name].total() + vocabulary
        return math.log(sizes[name]) + sum(
            math.log((words[name][word] + 1) / total) for word in words_of(message)
        )

    hits = sum(
        row.labels[label] == max(sizes, key=lambda name: score(name, row.message))
        for row in held_out_rows()
    )
    return hits / len(held_out_rows())


@pytest.mark.parametrize("prefix", ["", "sample:"])
@pytest.mark.parametrize("name", FILES)
def test_a_sample_is_found_with_and_without_its_prefix(prefix: str, name: str) -> None:
    assert sample_path(prefix + name).is_file()


def test_an_unknown_sample_names_those_that_exist() -> None:
    with pytest.raises(DataError) as caught:
        sample_path("sample:support-desc")
    assert "sample:support-desc" in caught.value.faults[0].found
    assert all("sample:" + name in caught.value.faults[0].fix for name in FILES)
