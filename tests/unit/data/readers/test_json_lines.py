from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.unit.data.readers.reading import fault_of, read, values_of, write
from tunesmith.data.rows import Chunk, Row, RowFault, read_chunks
from tunesmith.data.source import find_files


def chunks_of(path: Path, limit: int | None = None) -> list[Chunk]:
    return list(read_chunks(find_files(str(path)), limit=limit))


def test_chunks_survive_the_way_to_a_worker_and_keep_their_places(tmp_path: Path) -> None:
    row = json.dumps({"text": "salt " * 100})
    path = write(tmp_path, f"\n{row}\r\n \n" * 4000 + "{]\n", "d.jsonl")
    chunks = [pickle.loads(pickle.dumps(chunk)) for chunk in chunks_of(path)]
    assert len(chunks) > 1
    rows = [row for chunk in chunks for row in chunk.rows()]
    assert [row.line for row in rows] == [*range(2, 12_000, 3), 12_001]
    assert [row.number for row in rows if isinstance(row, Row)] == list(range(1, 4001))
    assert isinstance(rows[-1], RowFault)
    assert sum(chunk.num_rows for chunk in chunks) == 4001


def test_a_limit_counts_rows_over_chunks_and_files(tmp_path: Path) -> None:
    line = json.dumps({"text": "salt " * 100}) + "\n\n"
    write(tmp_path, line * 3000, "a.jsonl")
    write(tmp_path, line * 3000, "b.jsonl")
    for limit in (1, 2999, 3001, 5000, 9000):
        chunks = chunks_of(tmp_path, limit)
        assert sum(chunk.num_rows for chunk in chunks) == min(limit, 6000)
        assert sum(1 for chunk in chunks for _ in chunk.rows()) == min(limit, 6000)


@pytest.mark.parametrize(
    "line",
    [
        '{"a": 18446744073709551616, "b": -0, "c": 0.1, "d": 1e3}',
        '{"a": "\\ud83d end", "b": "\\ud83d\\ude00"}',
        '{"a": "\\u0000", "b": "\\u2028 \\/ \\t"}',
        '{"a": [1, [2, {"b": null}]], "": {"c:": ":"}}',
    ],
)
def test_the_fast_way_gives_what_the_standard_decoder_gives(tmp_path: Path, line: str) -> None:
    (values,) = values_of(write(tmp_path, line + "\n", "d.jsonl"))
    assert values == json.loads(line)
    assert [type(value) for value in values.values()] == [
        type(value) for value in json.loads(line).values()
    ]


def test_a_twice_written_key_is_found_beside_colons_in_texts(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": {"b" : "x\\": y", "b": ": z"}}\n', "d.jsonl")
    assert fault_of(path).reason == "duplicate key"


def test_a_fault_holds_the_text_of_its_row(tmp_path: Path) -> None:
    lines = ['{"a": 1,}', '{"a": NaN}', '"{}"', "7"]
    _, faults = read(write(tmp_path, "\n".join(lines), "d.jsonl"))
    assert [fault.raw for fault in faults] == lines
    assert all(fault.is_of_row for fault in faults)


def test_a_line_of_a_hundred_megabytes_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "a"}\n{"text": "')
        for _ in range(100):
            file.write(b"salt " * (2**20 // 5))
        file.write(b'"}\n{"text": "b"}\n')
    lengths = [len(row["text"]) for row in values_of(path)]
    assert lengths == [1, 100 * 5 * (2**20 // 5), 1]


def test_nul_is_a_fault_where_it_is_raw_and_kept_where_it_is_escaped(tmp_path: Path) -> None:
    rows, (fault,) = read(write(tmp_path, b'{"a": "x\0"}\n{"a": "y\\u0000"}\n', "d.jsonl"))
    assert (fault.line, "NUL" in fault.found) == (1, True)
    assert [row.values for row in rows] == [{"a": "y\0"}]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("\u00e9t\u00e9", "latin-1"), ("\u201cyes\u201d", "cp1252")],
)
def test_every_line_in_another_encoding_is_named_with_its_offset(
    tmp_path: Path, text: str, encoding: str
) -> None:
    line = f'{{"text": "{text}"}}\n'.encode(encoding)
    rows, faults = read(write(tmp_path, line + b'{"text": "ok"}\n' + line, "d.jsonl"))
    assert len(rows) == 1
    offsets = [int(fault.found.split("offset ")[1].split()[0]) for fault in faults]
    first = next(at for at, byte in enumerate(line) if byte > 127)
    assert offsets == [first, len(line) + 15 + first]
    assert "Windows-1252 or Latin-1" in faults[0].fix


def test_japanese_text_is_called_by_its_likely_encoding(tmp_path: Path) -> None:
    line = '{"text": "\u3053\u3093\u306b\u3061\u306f"}\n'.encode("shift_jis")
    assert "Shift-JIS" in fault_of(write(tmp_path, line, "d.jsonl")).fix


def test_row_numbers_are_the_same_whatever_blank_lines_hold(tmp_path: Path) -> None:
    blanks: list[Any] = ["", " ", "\t", "\r", " \r"]
    text = "\n".join(["", *(f'{blank}\n{{"a": 1}}' for blank in blanks), " ", ""])
    (chunk,) = chunks_of(write(tmp_path, text, "d.jsonl"))
    assert chunk.num_rows == len(list(chunk.rows())) == 5
