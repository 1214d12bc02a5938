from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.source import find_files


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"a": 1}\n' if "json" in name else "text,label\na,b\n")


def names_of(source: object) -> list[str]:
    return [file.path.name for file in find_files(str(source))]


def error_of(source: object) -> str:
    with pytest.raises(DataError) as caught:
        find_files(str(source))
    assert all(fault.found and fault.where and fault.fix for fault in caught.value.faults)
    return str(caught.value)


def test_a_file_is_found_and_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl")
    (file,) = find_files(str(tmp_path / "train.jsonl"))
    assert (file.path, file.shown, file.kind) == (
        tmp_path / "train.jsonl", str(tmp_path / "train.jsonl"), "jsonl",
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(file)) == file


def test_the_home_folder_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "train.jsonl")
    assert find_files("~/train.jsonl")[0].path == tmp_path / "train.jsonl"


def test_a_built_in_sample_has_a_name() -> None:
    assert find_files("sample:support-desk")[0].kind == "jsonl"
    assert "no built-in sample" in error_of("sample:nothing")


def test_a_folder_is_its_data_files_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "b.jsonl", "a.jsonl.gz", "c.CSV", ".hidden.jsonl", "README.md", "in/d.jsonl")
    with caplog.at_level(logging.WARNING):
        assert names_of(tmp_path) == ["a.jsonl.gz", "b.jsonl", "c.CSV"]
    assert "README.md, in" in caplog.text


def test_files_of_no_known_kind_in_a_folder_are_named(tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", "notes.docx", "x.py")
    text = error_of(tmp_path)
    assert "notes.docx, x.py" in text
    assert f"{tmp_path}/*.jsonl" in text


def test_a_folder_without_files_names_what_reads_those_below(tmp_path: Path) -> None:
    write(tmp_path, "data/a.jsonl")
    assert f"{tmp_path}/**/*.jsonl" in error_of(tmp_path)


def test_patterns_go_into_folders_where_asked(tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", "a.jsonl", "in/deep/c.jsonl", "d.csv")
    assert names_of(tmp_path / "*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert names_of(tmp_path / "**/*.jsonl") == ["a.jsonl", "b.jsonl", "c.jsonl"]
    text = error_of(tmp_path / "*.parquet")
    assert "no file matches" in text
    assert "a.jsonl, b.jsonl, d.csv" in text


def test_a_name_with_the_signs_of_a_pattern_is_still_a_name(tmp_path: Path) -> None:
    write(tmp_path, "a[1].jsonl", "b{x,y}.jsonl")
    assert names_of(tmp_path / "a[1].jsonl") == ["a[1].jsonl"]
    assert names_of(tmp_path / "b{x,y}.jsonl") == ["b{x,y}.jsonl"]


def test_files_side_by_side_are_one_source(tmp_path: Path) -> None:
    write(tmp_path, "train.en", "train.de")
    (file,) = find_files(str(tmp_path / "train.{en,de}"))
    assert (file.kind, file.columns) == ("parallel", ("en", "de"))
    assert file.beside == (tmp_path / "train.de",)
    assert "one word twice" in error_of(tmp_path / "train.{en,en}")


def test_all_faults_of_several_files_come_at_once(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"%PDF-1.7")
    (tmp_path / "c.jsonl").write_bytes(b"PK\x03\x04")
    text = error_of(tmp_path / "*.jsonl")
    assert "PDF" in text
    assert "Excel" in text


@pytest.mark.parametrize(
    "name", ["tarin.jsonl", "./data/x.jsonl", "data/train.jsonl", "a/b.json.gz"]
)
def test_a_missing_path_is_never_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tunesmith.data.source.find_on_hub", None)
    write(tmp_path, "train.jsonl")
    assert "does not exist" in error_of(name)


def test_a_slip_of_the_pen_in_a_folder_that_exists_is_no_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tunesmith.data.source.find_on_hub", None)
    write(tmp_path, "data/train/a.jsonl")
    assert f"did you mean data{os.sep}train?" in error_of("data/tarin")
