from __future__ import annotations

from pathlib import Path

from tests.unit.data.readers.reading import write
from tunesmith.data.rows import Row, RowFault, read_rows


def read(folder: Path, english: str, german: str) -> list[Row | RowFault]:
    write(folder, english, "train.en")
    write(folder, german, "train.de")
    return list(read_rows(str(folder / "train.{en,de}")))


def test_line_n_of_each_file_makes_a_row(tmp_path: Path) -> None:
    rows = read(tmp_path, 'a "b"\n\nc, d\n', "x\r\n\r\ny\r\n")
    assert [row.values for row in rows if isinstance(row, Row)] == [
        {"en": 'a "b"', "de": "x"}, {"en": "c, d", "de": "y"},
    ]  # fmt: skip
    assert [row.line for row in rows] == [1, 3]


def test_an_empty_line_beside_a_full_one_keeps_its_place(tmp_path: Path) -> None:
    rows = read(tmp_path, "a\n\nc\n", "x\ny\nz\n")
    assert [row.values["en"] for row in rows if isinstance(row, Row)] == ["a", "", "c"]


def test_unequal_files_are_a_fault_with_both_counts(tmp_path: Path) -> None:
    *_, fault = read(tmp_path, "a\nb\nc\n", "x\ny\n")
    assert isinstance(fault, RowFault)
    assert "train.en: 3, train.de: 2" in fault.found
    assert not fault.is_of_row


def test_both_files_must_exist(tmp_path: Path) -> None:
    write(tmp_path, "a\n", "train.en")
    (fault,) = read_rows(str(tmp_path / "train.{en,de}"))
    assert isinstance(fault, RowFault)
    assert "train.de" in fault.where


def test_braces_around_files_of_rows_name_several_files(tmp_path: Path) -> None:
    write(tmp_path, '{"a": 1}\n', "old.jsonl")
    write(tmp_path, '{"a": 2}\n', "new.jsonl")
    rows = list(read_rows(str(tmp_path / "{old,new}.jsonl")))
    assert [row.values for row in rows if isinstance(row, Row)] == [{"a": 1}, {"a": 2}]
