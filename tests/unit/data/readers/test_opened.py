from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.data.readers.reading import fault_of, read, values_of, write
from tunesmith.data.readers.opened import whole_lines

LINES = "".join(f'{{"text": "row {n} \u017e\U0001f600"}}\n' for n in range(5000))
ROWS = [{"text": f"row {n} \u017e\U0001f600"} for n in range(5000)]


def zstd(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.jsonl.zst", "d.jsonl", "d"])
def test_archives_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    for packed in (gzip.compress(LINES.encode()), zstd(LINES.encode())):
        assert values_of(write(tmp_path, packed, name)) == ROWS


def test_an_archive_in_several_parts_is_read_to_its_end(tmp_path: Path) -> None:
    half = len(LINES.encode()) // 2
    parts = LINES.encode()[:half], LINES.encode()[half:]
    for pack in (gzip.compress, zstd):
        assert values_of(write(tmp_path, b"".join(map(pack, parts)), "d.jsonl")) == ROWS


@pytest.mark.parametrize("kind", ["csv", "txt", "json", "conll"])
def test_any_kind_may_be_packed(tmp_path: Path, kind: str) -> None:
    text = {"csv": "a,b\n1,2\n", "txt": "a\n", "json": '[{"a": 1}]', "conll": "a\tO\n"}[kind]
    plain = values_of(write(tmp_path, text, f"d.{kind}"))
    assert values_of(write(tmp_path, gzip.compress(text.encode()), f"d.{kind}.gz")) == plain
    assert values_of(write(tmp_path, zstd(text.encode()), f"d.{kind}.zst")) == plain


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("damage", ["cut off", "changed"])
def test_a_damaged_archive_is_a_fault_of_the_file(tmp_path: Path, pack: type, damage: str) -> None:
    packed: bytes = pack(LINES.encode() * 30)
    middle = len(packed) // 2
    broken = packed[:middle] if damage == "cut off" else (
        packed[:middle] + bytes(byte ^ 255 for byte in packed[middle : middle + 64])
        + packed[middle + 64 :]
    )  # fmt: skip
    _, faults = read(write(tmp_path, broken, "d.jsonl"))
    last = faults[-1]
    assert "archive is damaged or was cut off" in last.found
    assert not last.is_of_row


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_every_encoding_with_a_mark_gives_the_same_rows(
    tmp_path: Path, encoding: str, ends: str
) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    raw = (mark + LINES.replace("\n", ends)).encode(encoding)
    assert values_of(write(tmp_path, raw, "d.jsonl")) == ROWS
    array = "[" + LINES.replace("\n", ",")[:-1] + "]"
    assert values_of(write(tmp_path, (mark + array).encode(encoding), "d.json")) == ROWS


def test_half_a_character_in_utf16_is_named_with_its_offset(tmp_path: Path) -> None:
    raw = '\ufeff{"a": 1}\n{"a": 2'.encode("utf-16-le") + b"\x00\xd8" + b"x\0"
    _, (fault,) = read(write(tmp_path, raw, "d.jsonl"))
    assert f"byte offset {len(raw) - 4} " in fault.found
    assert not fault.is_of_row


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "{}", "d.jsonl")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in fault_of(path).found


def test_a_disk_that_fails_is_a_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

    path = write(tmp_path, "{}", "d.jsonl")
    monkeypatch.setattr(Path, "open", lambda *_: Failing())
    fault = fault_of(path)
    assert "Input/output error" in fault.found
    assert "disk" in fault.fix


@pytest.mark.parametrize("size", range(1, 9))
def test_lines_are_whole_wherever_blocks_are_cut(size: int) -> None:
    raw = b"a\n\nbcd\nefghijk\nl"
    blocks = [raw[at : at + size] for at in range(0, len(raw), size)]
    whole = list(whole_lines(iter(blocks)))
    assert b"".join(whole) == raw
    assert all(block.endswith(b"\n") for block in whole[:-1])
