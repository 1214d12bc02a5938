from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.readers.reading import read, values_of, write
from tunesmith.data.rows import read_chunks
from tunesmith.data.source import find_files

TEXT = "Zagreb\tB-LOC\nis\tO\n\n\t\nAna\tB-PER\n"
ROWS = [
    {"tokens": ["Zagreb", "is"], "tags": ["B-LOC", "O"]},
    {"tokens": ["Ana"], "tags": ["B-PER"]},
]


@pytest.mark.parametrize("name", ["d.conll", "d.iob", "d.bio", "d.txt", "d.tsv", "d.annotated"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_sentences_end_at_blank_lines(tmp_path: Path, name: str, ends: str) -> None:
    assert values_of(write(tmp_path, TEXT.replace("\n", ends), name)) == ROWS


def test_the_last_of_several_columns_is_the_tag(tmp_path: Path) -> None:
    text = "EU NNP I-NP B-ORG\nrejects VBZ I-VP O\n"
    assert values_of(write(tmp_path, text, "d.conll")) == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}
    ]


def test_a_token_may_be_a_space_of_another_kind(tmp_path: Path) -> None:
    (row,) = values_of(write(tmp_path, "a\tO\n\u00a0\tO\n\u200b\tO\n#\tO\n", "d.conll"))
    assert row["tokens"] == ["a", "\u00a0", "\u200b", "#"]


def test_lines_without_tag_are_named_and_other_sentences_read(tmp_path: Path) -> None:
    text = "a\tO\nb\n\nc\tO\n\nd\n\te\nf\tO\n"
    rows, faults = read(write(tmp_path, text, "d.conll"))
    assert [row.number for row in rows] == [2]
    assert [fault.line for fault in faults] == [2, 6]
    assert 'line 2 has no token with a tag ("b")' in faults[0].found
    assert "lines 6, 7 have" in faults[1].found


def test_document_starts_and_comments_are_passed_over_and_counted(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O O\n\n# id 7 domain=en\na _ _ O\n\n-DOCSTART- -X- O O\n\n# _ _ O\n"
    path = write(tmp_path, text, "d.conll")
    assert [row["tokens"] for row in values_of(path)] == [["a"], ["#"]]
    skipped = [one for chunk in read_chunks(find_files(str(path))) for one in chunk.skipped]
    assert [(one.what, one.count, one.first_line) for one in skipped] == [
        ("-DOCSTART- lines", 2, 1), ("comment lines", 1, 3),
    ]  # fmt: skip
