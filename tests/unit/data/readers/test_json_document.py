from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.readers.reading import fault_of, read, values_of, write
from tunesmith.data.json_text import NotJsonError
from tunesmith.data.readers import json_stream
from tunesmith.data.readers.json_stream import JsonStream
from tunesmith.data.readers.json_walk import elements
from tunesmith.data.readers.opened import Opened
from tunesmith.data.rows import Row, read_rows

ROWS = [{"a": 'x\u017e\\ "q" ', "n": [1.5, -20, {"b": None}]}, {"a": "\U0001f600"}, {}]


def cut(raw: bytes, size: int) -> Opened:
    return Opened(0, iter([raw[at : at + size] for at in range(0, len(raw), size)]))


@pytest.mark.parametrize("size", range(1, 40))
def test_values_are_whole_wherever_the_blocks_are_cut(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "BLOCK_BYTES", 1)
    monkeypatch.setattr(json_stream, "_KEPT_BEFORE", 3)
    values = [*ROWS, 12345, -1.5e-7, True, "text"]
    raw = json.dumps(values, indent=1, ensure_ascii=False).encode()
    stream = JsonStream(cut(raw, size))
    assert stream.take("[")
    read = list(elements(stream))
    assert [value.value for value in read] == values
    lines = raw.decode().split("\n")
    assert [lines[value.line - 1].strip()[:1] for value in read] == list('{{{1-t"')


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_error_is_placed_in_the_file_and_not_in_the_buffer(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "BLOCK_BYTES", 1)
    raw = b'[\n {"a": 1},' + b" " * 600 + b'{"b": 2}, {"c": "x "y" z"}]'
    stream = JsonStream(cut(raw, size))
    assert stream.take("[")
    with pytest.raises(NotJsonError) as caught:
        list(elements(stream))
    line = raw.split(b"\n")[1]
    assert (caught.value.line, caught.value.column) == (2, line.index(b'"y"') + 1)


def test_a_long_array_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    row = json.dumps({"text": "salt " * 200})
    path.write_text("[" + ",\n".join([row] * 30_000) + "]")
    wrapped = tmp_path / "w.json"
    wrapped.write_text('{"version": 1, "data": ' + path.read_text() + ', "end": {}}')
    for file in (path, wrapped):
        tracemalloc.start()
        assert sum(isinstance(row, Row) for row in read_rows(file)) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
        tracemalloc.stop()


@pytest.mark.parametrize(
    "document",
    [
        {"data": ROWS}, {"version": "1", "info": {"by": ["x"]}, "rows": ROWS, "tags": ["a"]},
        {"tags": [], "rows": ROWS},
    ],
)  # fmt: skip
@pytest.mark.parametrize("indent", [None, 2])
def test_the_one_list_of_objects_in_an_object_is_its_rows(
    tmp_path: Path, document: Any, indent: int | None
) -> None:
    path = write(tmp_path, json.dumps(document, indent=indent), "d.json")
    assert values_of(path) == ROWS


def test_rows_of_an_object_have_the_places_of_an_array(tmp_path: Path) -> None:
    rows, _ = read(write(tmp_path, '{\n"data": [\n{"a": 1}, {"a": 2},\n{"a": 3}]}', "d.json"))
    assert [row.row_id for row in rows] == ["d.json:3#1", "d.json:3#2", "d.json:4#3"]


def test_two_lists_of_objects_ask_for_rows_at(tmp_path: Path) -> None:
    path = write(tmp_path, '{"train": [{"a": 1}], "test": [{"a": 2}]}', "d.json")
    fault = fault_of(path)
    assert "train and test" in fault.found
    assert "data.rows_at" in fault.fix
    assert not fault.is_of_row
    assert values_of(path, rows_at="test") == [{"a": 2}]


def test_rows_at_goes_down_a_path(tmp_path: Path) -> None:
    text = '{"rows": 1, "result": {"n": 2, "rows": [{"a": 1}, {"a": 2}], "x": []}, "y": {}}'
    path = write(tmp_path, text, "d.json")
    assert values_of(path, rows_at="result.rows") == [{"a": 1}, {"a": 2}]
    for wrong, keys in (("result.row", "n, rows, x"), ("results", "rows, result, y")):
        fault = fault_of(path, rows_at=wrong)
        assert keys in fault.fix
        assert wrong in fault.found


def test_rows_at_something_else_says_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, '{"result": {"n": 2, "rows": [{"a": 1}]}}', "d.json")
    fault = fault_of(path, rows_at="result")
    assert 'and "result" there is an object' in fault.found
    assert fault.fix.endswith("such as result.rows")
    assert '"n" there is an integer' in fault_of(path, rows_at="result.n.x").found


def test_columns_of_lists_become_rows(tmp_path: Path) -> None:
    path = write(tmp_path, '{"prompt": ["a", "b"], "completion": ["c", "d"]}', "d.json")
    assert values_of(path) == [
        {"prompt": "a", "completion": "c"}, {"prompt": "b", "completion": "d"},
    ]  # fmt: skip
    uneven = fault_of(write(tmp_path, '{"prompt": ["a", "b"], "completion": ["c"]}', "e.json"))
    assert "prompt: 2, completion: 1" in uneven.found


@pytest.mark.parametrize("indent", [None, 2])
def test_a_single_conversation_is_a_row(tmp_path: Path, indent: int | None) -> None:
    row = {"messages": [{"role": "user", "content": "a"}], "id": 7}
    assert values_of(write(tmp_path, json.dumps(row, indent=indent), "d.json")) == [row]


def test_json_lines_are_read_under_the_name_of_json(tmp_path: Path) -> None:
    assert len(values_of(write(tmp_path, '{"a": 1}\n{"a": 2}\n', "d.json"))) == 2


def test_squad_is_made_flat(tmp_path: Path) -> None:
    question = {
        "question": "q?", "id": "7",
        "answers": [{"text": "a", "answer_start": 3}, {"text": "b", "answer_start": 9}],
    }  # fmt: skip
    other = {"question": "r?", "id": "8", "answers": [], "is_impossible": True}
    article = {"title": "t", "paragraphs": [{"context": "c", "qas": [question, other]}]}
    for document in ({"version": "1.1", "data": [article] * 2}, [article] * 2):
        rows = values_of(write(tmp_path, json.dumps(document), "d.json"))
        assert len(rows) == 4
        assert rows[0] == {
            "title": "t", "context": "c", "question": "q?", "id": "7",
            "answers": {"text": ["a", "b"], "answer_start": [3, 9]},
        }  # fmt: skip
        assert rows[1]["answers"] == {"text": [], "answer_start": []}
        assert rows[1]["is_impossible"] is True


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"data": [{"a": 1}], }', "trailing comma"),
        ('{"data": [{"a": 1}] "b": 1}', "comma is missing"),
        ('{"data": [{"a": 1}]', "the object is not closed"),
        ('{"data": [{"a": 1}', "the array is not closed"),
        ('{"data" [{"a": 1}]}', "a colon is missing"),
        ('{"data": [{"a": 1}]} {"a": 2}', "more than one value"),
        ('{"data": []}', "the list data is empty"),
    ],
)
def test_a_broken_object_is_a_fault_of_the_file(tmp_path: Path, text: str, found: str) -> None:
    fault = fault_of(write(tmp_path, text, "d.json"))
    assert found in fault.found
    assert not fault.is_of_row


def test_a_fault_of_one_element_does_not_end_the_array(tmp_path: Path) -> None:
    text = b'[{"a": 1},\n{"a": "\xe9"},\n{"a": NaN}, {"a": 1, "a": 2}, {"a": 5}]'
    rows, faults = read(write(tmp_path, text, "d.json"))
    assert [row.number for row in rows] == [1, 5]
    assert [(fault.line, fault.row) for fault in faults] == [(2, 2), (3, 3), (3, 4)]
    offset = text.index(b"\xe9")
    assert f"byte offset {offset} " in faults[0].found
    assert all(fault.is_of_row for fault in faults)
    assert faults[1].raw == '{"a": NaN}'


def test_a_broken_array_cannot_be_used_even_where_bad_rows_are_dropped(tmp_path: Path) -> None:
    fault = fault_of(write(tmp_path, '[{"a": 1}, {"a": ]', "d.json"))
    assert fault.spoils_file
    assert not fault.is_of_row
