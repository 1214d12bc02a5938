from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.readers.reading import fault_of, read, values_of, write
from tunesmith.data.rows import read_chunks
from tunesmith.data.source import find_files


def texts_of(path: Path, documents: str = "auto") -> list[str]:
    return [row["text"] for row in values_of(path, documents=documents)]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_are_no_part_of_a_text(tmp_path: Path, ends: str) -> None:
    path = write(tmp_path, f"red{ends}blue{ends}", "d.txt")
    assert texts_of(path) == ["red", "blue"]
    assert texts_of(path, "file") == ["red\nblue"]


def test_a_bare_return_inside_a_line_stays_where_lines_end_in_line_feeds(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path, "red\rblue\nx\n", "d.txt")) == ["red\rblue", "x"]


def test_documents_are_lines_or_blocks_or_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "\na\n  b\n \n\nc\n", "d.txt")
    assert texts_of(path) == texts_of(path, "line") == ["a", "  b", "c"]
    assert texts_of(path, "block") == ["a\n  b", "c"]
    assert texts_of(path, "file") == ["\na\n  b\n \n\nc"]
    rows, _ = read(path, documents="block")
    assert [(row.line, row.number) for row in rows] == [(2, 1), (6, 2)]


def test_markdown_is_one_document(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path, "# A\n\nb\n", "d.md")) == ["# A\n\nb"]


def test_a_tune_begins_at_its_number_and_keeps_blank_lines(tmp_path: Path) -> None:
    text = "%abc-2.1\n\nX: 1\nT:a\n\nK:G\nGABc\n\n\nX:2\nK:D\nd2\n"
    path = write(tmp_path, text, "d.abc")
    assert texts_of(path) == ["X: 1\nT:a\n\nK:G\nGABc", "X:2\nK:D\nd2"]
    (skipped,) = [one for chunk in read_chunks(find_files(str(path))) for one in chunk.skipped]
    assert (skipped.what, skipped.count) == ("lines before the first X:", 1)


def test_music_without_numbers_is_cut_at_blank_lines(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path, "GABc\n\nd2\n", "d.abc")) == ["GABc", "d2"]


def test_verses_in_brackets_are_text(tmp_path: Path) -> None:
    assert texts_of(write(tmp_path, "[Verse 1]\n{hm}\n", "d.txt")) == ["[Verse 1]", "{hm}"]


def test_faults_name_their_lines(tmp_path: Path) -> None:
    rows, faults = read(write(tmp_path, b"xyz\xe9\nb\nc\0d\n", "d.txt"))
    assert [fault.line for fault in faults] == [1, 3]
    assert [row.values for row in rows] == [{"text": "b"}]


@pytest.mark.parametrize("documents", ["line", "block", "file"])
def test_a_file_of_blank_lines_is_empty(tmp_path: Path, documents: str) -> None:
    path = write(tmp_path, "\n \n", "d.txt")
    assert fault_of(path, documents=documents).reason == "empty file"
