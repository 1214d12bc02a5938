"""Reads public data sets as their authors publish them, where a folder of them is at hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.unit.data.readers.reading import read, values_of
from tunesmith.data.rows import Row, read_rows

DATA = Path(__file__).parents[5] / "shared" / "data"  # beside the repository

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no folder of public data at {DATA}")


@pytest.mark.parametrize(
    ("source", "rows", "columns"),
    [
        ("gsm8k/train.jsonl", 7473, "question answer"),
        ("gsm8k/test.jsonl", 1319, "question answer"),
        ("banking77/train.csv", 10_003, "text category"),
        ("banking77/test.csv", 3080, "text category"),
        ("wnut17/wnut17train.conll", 3394, "tokens tags"),
        ("wnut17/emerging.dev.conll", 1009, "tokens tags"),
        ("wnut17/emerging.test.annotated", 1287, "tokens tags"),
        ("multi30k/train.{en,de}", 29_000, "en de"),
        ("multi30k/val.{en,de}", 1014, "en de"),
        ("multi30k/test_2016_flickr.{en,de}", 1000, "en de"),
        ("xquad/xquad.en.json", 1190, "title context answers id question"),
        ("nottingham", 1034, "text"),
        ("truthfulqa/mc_task.json", 790, "question mc0_targets mc1_targets mc2_targets"),
        ("demo/alpaca_en_demo.json", 999, "instruction input output"),
        ("demo/identity.json", 91, "instruction input output"),
        ("demo/glaive_toolcall_en_demo.json", 300, "conversations tools"),
        ("demo/dpo_en_demo.json", 300, "conversations chosen rejected"),
    ],
)
def test_every_row_of_a_public_file_is_read(source: str, rows: int, columns: str) -> None:
    found = list(read_rows(str(DATA / source)))
    assert len(found) == rows
    assert all(isinstance(one, Row) and [*one.values] == columns.split() for one in found)


def test_the_rows_are_those_of_the_standard_readers() -> None:
    for path in sorted((DATA / "demo").glob("*.json")):
        assert values_of(path) == json.loads(path.read_text(encoding="utf-8"))
    for path in (*(DATA / "banking77").glob("*.csv"), DATA / "truthfulqa" / "TruthfulQA.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            assert values_of(path) == [*csv.DictReader(line.replace("\r\n", "\n") for line in file)]
    for path in (DATA / "gsm8k").glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert values_of(path) == [json.loads(line) for line in lines]


def test_tunes_begin_with_their_number() -> None:
    for path in (DATA / "nottingham").glob("*.abc"):
        rows, faults = read(path)
        assert not faults
        assert all(row.values["text"].startswith("X:") for row in rows)
        assert len(rows) == sum(line.startswith("X:") for line in path.read_text().splitlines())


def test_answers_stand_where_they_say() -> None:
    for row in values_of(DATA / "xquad" / "xquad.en.json"):
        answers = row["answers"]
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
