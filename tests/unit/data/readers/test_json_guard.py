from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest

from tunesmith.data.json_text import JsonText
from tunesmith.data.readers.json_guard import has_every_key, is_exact

# Pieces that make colons, quotes and backslashes meet in every way.
CHARS = ('"', ":", "\\", " ", "a", "\t", "\n", "\u017e", "{", "}", ",")


class Writer:
    """Writes random JSON texts; `has_twice` tells whether a key was written twice."""

    def __init__(self, seed: int, *, may_repeat: bool) -> None:
        self.draw = random.Random(seed)
        self.may_repeat = may_repeat
        self.has_twice = False

    def value(self, depth: int) -> str:
        kind = self.draw.randrange(6 if depth else 3)
        if kind == 0:
            return json.dumps(self.text(), ensure_ascii=self.draw.random() < 0.5)
        if kind == 1:
            return self.draw.choice(("1", "-2.5", "true", "null", "1e3", "[]", "{}"))
        if kind == 2:
            return json.dumps(json.dumps({self.text(): self.text()}))
        if kind == 3:
            return "[" + self.joined([self.value(depth - 1) for _ in range(3)]) + "]"
        return self.object(depth)

    def object(self, depth: int) -> str:
        keys = [self.text() for _ in range(self.draw.randrange(4))]
        if keys and self.may_repeat and self.draw.random() < 0.3:
            keys.append(self.draw.choice(keys))
        self.has_twice = self.has_twice or len(set(keys)) < len(keys)
        fields = [
            f"{json.dumps(key)}{self.gap()}:{self.gap()}{self.value(depth - 1)}" for key in keys
        ]
        return "{" + self.joined(fields) + "}"

    def text(self) -> str:
        return "".join(self.draw.choices(CHARS, k=self.draw.randrange(6)))

    def joined(self, parts: list[str]) -> str:
        return f"{self.gap()},{self.gap()}".join(parts)

    def gap(self) -> str:
        return "".join(self.draw.choices((" ", "\t", "\r", "\n", ""), k=self.draw.randrange(3)))


@pytest.mark.parametrize("part", range(4))
def test_a_key_written_twice_is_never_missed(part: int) -> None:
    num_twice = 0
    for seed in range(part * 5000, (part + 1) * 5000):
        writer = Writer(seed, may_repeat=True)
        text = writer.object(3)
        if not writer.has_twice:
            continue
        num_twice += 1
        assert not is_exact(text.encode(), orjson.loads(text)), text
        assert not has_every_key(text, json.loads(text)), text
        assert JsonText().decode(text, 0, alone=True)[2], text
    assert num_twice > 500


def test_most_texts_without_such_a_key_are_passed_at_once() -> None:
    num_passed = 0
    for seed in range(2000):
        text = Writer(seed, may_repeat=False).object(3)
        if Writer(seed, may_repeat=False).has_twice:
            continue
        value = orjson.loads(text)
        num_passed += is_exact(text.encode(), value)
    assert num_passed > 1400  # these texts are full of colons at a quote


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "b"}', '{"a" : "Note : it says \\"x\\": y", "c": [{"d": 1.5}]}',
        '{"a": "ends in a backslash \\\\", "b": "c:\\\\\\\\x"}', "{}",
    ],
)  # fmt: skip
def test_usual_texts_are_passed(text: str) -> None:
    assert is_exact(text.encode(), orjson.loads(text))
    assert has_every_key(text, json.loads(text))


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1" * 40])
def test_an_integer_that_became_a_float_is_not_passed(number: str) -> None:
    for text in (f'{{"a": {number}}}', f'{{"a": [{{"b": {number}}}]}}'):
        value: Any = orjson.loads(text)
        assert not is_exact(text.encode(), value)
