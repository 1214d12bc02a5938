from __future__ import annotations

import json
from typing import Any

import pytest

from tunesmith.data.repair import MAX_SHOWN, excerpt, repair_text, repair_values

ROW = {"messages": [{"role": "user", "content": "Team?"}, {"role": "assistant", "content": "H"}]}


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(ROW)[:-2] + ",]}",
        json.dumps(ROW)[:-1] + ", }",
        str(ROW),
        json.dumps(json.dumps(ROW)),
        json.dumps(ROW),
    ],
)
def test_a_row_is_what_it_was_meant_to_be(raw: str) -> None:
    repaired = repair_text(raw)
    assert repaired is not None
    assert json.loads(repaired) == ROW


def test_raw_control_characters_are_escaped_and_no_numbers_become_null() -> None:
    assert repair_text('{"a": "x\ty\nz"}') == '{"a": "x\\ty\\nz"}'
    assert repair_text('{"a": NaN, "b": [-Infinity]}') == '{"a": null, "b": [null]}'
    assert repair_text("{'a': True, 'b': None, 'c': \"it's\"}") == (
        '{"a": true, "b": null, "c": "it\'s"}'
    )


def test_a_comma_inside_a_text_stays() -> None:
    assert repair_text('{"a": "one, } two", "b": [1,],}') == '{"a": "one, } two", "b": [1]}'


@pytest.mark.parametrize(
    "raw",
    ['{"a": "say "hi" now"}', '{"a": 1', '{"a": 1} {"b": 2}', '{"a": 1, "a": 2}',
     "{'a': 1, 'a': 2}", "[1]", '"x"', '{"a": "\0"}', "", "None", "open('x')"],
)  # fmt: skip
def test_nothing_is_made_up(raw: str) -> None:
    assert repair_text(raw) is None


@pytest.mark.parametrize(
    ("values", "field", "reason", "expected", "mended"),
    [
        ({"output": 4}, "output", "wrong type", "string", {"output": "4"}),
        ({"output": 4.5}, "output", "wrong type", "string", {"output": "4.5"}),
        ({"m": [{"role": "assistan"}]}, "m[0].role", "unknown role", "x",
         {"m": [{"role": "assistant"}]}),
        ({"m": [{"from": "Human"}]}, "m[0].from", "unknown role", "x", {"m": [{"from": "user"}]}),
    ],
)  # fmt: skip
def test_a_value_with_one_certain_writing_is_mended(
    values: dict[str, Any], field: str, reason: str, expected: str, mended: object
) -> None:
    repaired = repair_values(values, field, reason, expected)
    assert repaired is not None
    assert json.loads(repaired) == mended


@pytest.mark.parametrize(
    ("values", "field", "reason", "expected"),
    [
        ({"tools": 4}, "tools", "wrong type", "list of tools"),
        ({"output": True}, "output", "wrong type", "string"),
        ({"output": None}, "output", "null instead of a text", "string"),
        ({"output": ""}, "output", "empty text", "a text"),
        ({"m": [{"role": "zzz"}]}, "m[0].role", "unknown role", "x"),
        ({"a.b": 4}, "a.b", "wrong type", "string"),
    ],
)
def test_other_values_are_left_to_their_author(
    values: dict[str, Any], field: str, reason: str, expected: str
) -> None:
    assert repair_values(values, field, reason, expected) is None


def test_a_long_row_is_shown_around_its_change() -> None:
    before = json.dumps({"a": "x" * 1000, "b": 4, "c": "y" * 1000})
    shown = excerpt(before, before.replace("4", '"4"'))
    assert len(shown) <= MAX_SHOWN
    assert '"b": "4"' in shown
    assert shown.startswith("...")
    assert shown.endswith("...")
    assert excerpt('{"a":4}', '{"a": "4"}') == '{"a": "4"}'
