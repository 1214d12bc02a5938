from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.readers.reading import fault_of, write
from tunesmith.data.readers.kind import find_kind

PROSE = "A man, in a hat.\nTwo dogs, at play, run.\nNothing.\n"


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("d.jsonl", '{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("d.json", '{"a": 1}\n{"a": 2}\n', "jsonl"),
        ("d.json", '{"data": [{"a": 1}]}', "json"),
        ("d.json", '{\n"data": [{"a": 1}]}', "json"),
        ("d.json", ' [{"a": 1}]', "json"),
        ("d.jsonl", '{"a": 1,}\n{"a": 2}\n', "jsonl"),
        ("d.jsonl", '{"a": 1\n{"a": 2}\n', "jsonl"),
        ("d.jsonl", '{"data": [\n{"a": 1}]}', "json"),
        ("d.jsonl", '{\n"data": [{"a": 1}]}', "json"),
        ("d.txt", '{"a": 1}\n', "json"),
        ("d.txt", PROSE, "text"),
        ("d.en", PROSE, "text"),
        ("d.dat", "text,label\na,1\nb,2\n", "csv"),
        ("d.dat", "text\tlabel\na\t1\nb\t2\n", "csv"),
        ("d.dat", "a\tO\nb\tB-LOC\n", "conll"),
        ("d.csv", "a,b\n1,2\n", "csv"),
        ("d.abc", "X:1\nK:G\n", "abc"),
        ("D.JSONL", '{"a": 1}\n', "jsonl"),
        ("d", "", "text"),
    ],
)
def test_name_and_content_tell_the_kind(tmp_path: Path, name: str, text: str, kind: str) -> None:
    assert find_kind(write(tmp_path, text, name), name) == kind


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"%PDF-1.7", "PDF"), (b"PK\x03\x04", "Excel"), (b"ARROW1\0\0", "Arrow"),
        (b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x89PNG\r\n", "picture"),
        (b"\0" * 257 + b"ustar", "tar"),
    ],
)  # fmt: skip
def test_what_no_reader_is_for_is_called_by_its_name(
    tmp_path: Path, content: bytes, found: str
) -> None:
    for name in ("d.jsonl", "d.csv", "d"):
        fault = fault_of(write(tmp_path, content, name))
        assert found in fault.found
        assert fault.fix
