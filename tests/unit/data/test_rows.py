from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.data.rows import Row, RowFault, read_rows

GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}


def write(folder: Path, content: bytes | str, name: str = "d.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(path: Path, limit: int | None = None) -> list[Row]:
    rows = list(read_rows(path, limit))
    assert all(isinstance(row, Row) for row in rows), rows
    return [row for row in rows if isinstance(row, Row)]


def fault_of(path: Path) -> RowFault:
    (fault,) = [row for row in read_rows(path) if isinstance(row, RowFault)]
    return fault


def test_each_line_is_a_row_that_knows_its_line(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, '{"a": 1}\n\n  \n{"a": 2}'))
    assert [(row.line, row.values, row.row_id) for row in rows] == [
        (1, {"a": 1}, "d.jsonl:1"),
        (4, {"a": 2}, "d.jsonl:4"),
    ]


def test_elements_of_an_array_know_the_line_they_begin_on(tmp_path: Path) -> None:
    text = '\n[\n  {"a": 1,\n "b": "x\\ny"}, {"a": 2},\n\n{"a": 3}\n]\n'
    rows = rows_of(write(tmp_path, text, "d.json"))
    assert [(row.line, row.number, row.values["a"]) for row in rows] == [
        (3, 1, 1), (4, 2, 2), (6, 3, 3),
    ]  # fmt: skip
    assert rows[1].row_id == "d.json:4#2"


def test_an_array_is_known_by_its_first_character_and_not_by_the_file_name(tmp_path: Path) -> None:
    assert len(rows_of(write(tmp_path, '[{"a": 1},\n{"a": 2}]', "d.jsonl"))) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    lines = '{"messages": [], "meta": {"city": "Oslo"}}\n{"messages": [], "meta": {"n": 3}}\n'
    plain = [row.values for row in rows_of(write(tmp_path, lines))]
    marked = [row.values for row in rows_of(write(tmp_path, b"\xef\xbb\xbf" + lines.encode()))]
    assert marked == plain
    assert next(iter(marked[0])) == "messages"
    in_array = rows_of(write(tmp_path, b'\xef\xbb\xbf[{"a": 1}]', "d.json"))
    assert in_array[0].values == {"a": 1}


def test_windows_line_ends_change_nothing_and_an_escaped_return_survives(tmp_path: Path) -> None:
    text = '{"text": "red\\rblue"}\n{"text": "green"}\n'
    unix = [row.values for row in rows_of(write(tmp_path, text))]
    windows = [row.values for row in rows_of(write(tmp_path, text.replace("\n", "\r\n")))]
    assert windows == unix
    assert unix[0]["text"] == "red\rblue"


def test_line_separators_of_unicode_do_not_end_a_line(tmp_path: Path) -> None:
    assert len(rows_of(write(tmp_path, '{"text": "a\u2028b\u0085c"}\n'))) == 1


def test_a_line_of_many_megabytes_is_one_row(tmp_path: Path) -> None:
    long = json.dumps({"text": "salt " * (12 * 2**20 // 5)})
    rows = rows_of(write(tmp_path, f'{{"text": "a"}}\n{long}\n{{"text": "b"}}\n'))
    assert [row.line for row in rows] == [1, 2, 3]


def test_only_the_first_rows_are_read_where_a_limit_is_given(tmp_path: Path) -> None:
    assert len(rows_of(write(tmp_path, '{"a": 1}\n' * 10), limit=3)) == 3
    assert len(rows_of(write(tmp_path, '[{"a": 1}, {"a": 2}, nonsense'), limit=2)) == 2


@pytest.mark.parametrize(
    ("line", "found", "column"),
    [
        ('{"messages": [{"role": "user"},]}', "trailing comma", 31),
        ('{"a": 1,}', "trailing comma", 8),
        ('{"content": "say "hi" now"}', "unescaped quote", 18),
        ('{"a": 1} {"a": 2}', "more than one value", 10),
        ('{"a": 1}, {"a": 2}', "more than one value", 9),
        ("{'a': 1}", "single quote", 2),
        ('{"a": "b\tc"}', "raw control character", 9),
        ('{"a": "b\0c"}', "NUL", 9),
        ('{"a": "b', "not closed", 7),
        ('{"a": "C:\\data"}', "backslash", 10),
        ('{"a": True}', "word of Python", 7),
        ('{"a": 1', "ends before", 8),
        ("hello", "expecting value", 1),
    ],
)
def test_a_line_that_is_not_json_is_named_with_its_column_and_likely_cause(
    tmp_path: Path, line: str, found: str, column: int
) -> None:
    fault = fault_of(write(tmp_path, f'{{"a": 0}}\n{line}\n{{"a": 9}}\n'))
    assert fault.line == 2
    assert "line 2 is not JSON: " in fault.found
    assert found in fault.found
    assert fault.found.endswith(f"column {column}")
    assert fault.fix


def test_every_bad_line_is_reported_and_good_ones_still_come_out(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 1}\n{"a": 1,}\n{"a": "x"y"}\n{"a": 2}\n')
    rows = list(read_rows(path))
    assert [type(row) for row in rows] == [Row, RowFault, RowFault, Row]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (json.dumps(json.dumps(GOOD)), "a string"), ("7", "an integer"), ("1.5", "a number"),
        ("null", "null"), ("true", "a boolean"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_object_is_called_what_it_is(
    tmp_path: Path, line: str, kind: str
) -> None:
    fault = fault_of(write(tmp_path, f"{line}\n"))
    assert f"line 1 is {kind}, expected an object" in str(fault.to_fault())


def test_a_row_encoded_twice_is_told_apart(tmp_path: Path) -> None:
    assert "encoded twice" in fault_of(write(tmp_path, json.dumps(json.dumps(GOOD)))).fix


def test_elements_that_are_no_objects_are_counted_by_row(tmp_path: Path) -> None:
    rows = list(read_rows(write(tmp_path, '[{"a": 1}, 7, [1], {"a": 2}]', "d.json")))
    assert [type(row) for row in rows] == [Row, RowFault, RowFault, Row]
    assert isinstance(rows[1], RowFault)
    assert rows[1].where.endswith("d.json:1, row 2")
    assert "row 2 is an integer, expected an object" in str(rows[1].to_fault())


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ('[{"a": 1},\n {"a": 2},\n]', 2, "trailing comma"),
        ('[{"a": 1}\n {"a": 2}]', 2, "comma is missing"),
        ('[{"a": 1},\n {"a": 2}', 2, "not closed"),
        ('[{"a": 1}]\n[{"a": 2}]', 2, "more than one value"),
        ('[{"a": 1},\n {"a": "x "y" z"}]', 2, "unescaped quote"),
        ('[{"a": 1},\n {"a": }]', 2, "expecting value"),
    ],
)
def test_a_broken_array_is_named_at_its_line(
    tmp_path: Path, text: str, line: int, found: str
) -> None:
    fault = fault_of(write(tmp_path, text, "d.json"))
    assert (fault.line, found in fault.found) == (line, True), fault


def test_a_key_written_twice_is_a_fault_at_any_depth(tmp_path: Path) -> None:
    fault = fault_of(write(tmp_path, '{"a": {"content": "x", "b": 1, "content": "y"}}'))
    assert (fault.field, fault.reason) == ("content", "duplicate key")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_a_fault_with_its_path(
    tmp_path: Path, constant: str
) -> None:
    fault = fault_of(write(tmp_path, f'{{"a": [{{"score": 1}}, {{"score": {constant}}}]}}'))
    assert (fault.field, constant in fault.found) == ("a[1].score", True)


def test_depth_without_end_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    assert "nested too deeply" in fault_of(write(tmp_path, '{"a": ' + "[" * 200_000)).found


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"[]", b" [ \n ] "])
def test_a_file_without_rows_is_a_fault(tmp_path: Path, content: bytes) -> None:
    fault = fault_of(write(tmp_path, content))
    assert fault.reason == "empty file"
    assert "is empty" in fault.found


def test_a_folder_without_data_files_is_a_fault_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    fault = fault_of(tmp_path)
    assert "directory" in fault.found
    assert "train" in fault.fix


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    path = write(tmp_path, "{}", "train.jsonl")
    fault = fault_of(tmp_path / "trains.jsonl")
    assert "does not exist" in fault.found
    assert str(path) in fault.fix
    assert "folder" in fault_of(tmp_path / "nowhere" / "train.jsonl").fix


def test_bytes_that_are_not_utf8_are_named_by_their_offset_in_the_file(tmp_path: Path) -> None:
    first = '{"a": "\u017e"}\n'.encode()
    fault = fault_of(write(tmp_path, first + b'{"a": "ab\xe9"}\n{"a": 1}\n'))
    assert fault.line == 2
    assert f"0xe9 at byte offset {len(first) + 9} " in fault.found
    assert "UTF-8" in fault.fix
    array = fault_of(write(tmp_path, b'\xef\xbb\xbf[{"a": "\xe9"}]', "d.json"))
    assert "byte offset 11 " in array.found


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_wide_text_without_a_mark_is_called_by_its_name(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-32-le" else ""
    fault = fault_of(write(tmp_path, (mark + '{"a": 1}\n{"a": 2}').encode(encoding)))
    assert encoding[:6].upper() in fault.found
    assert "byte offset 0" in fault.found


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("d.jsonl", b"\x1f\x8b\x08\x00", "gzip"), ("d.jsonl", b"PAR1....", "Parquet"),
        ("d.csv", b"PK\x03\x04...", "Excel"), ("d.jsonl", b"%PDF-1.7\n", "PDF"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_one_fault_and_not_one_a_line(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    assert kind in fault_of(write(tmp_path, content, name)).found


def test_json_text_is_read_under_any_name(tmp_path: Path) -> None:
    assert len(rows_of(write(tmp_path, '{"a": 1}\n', "d.txt"))) == 1


def test_one_object_over_several_lines_is_one_fault(tmp_path: Path) -> None:
    assert "several lines" in fault_of(write(tmp_path, '{\n "a": 1,\n "b": 2\n}\n')).found
