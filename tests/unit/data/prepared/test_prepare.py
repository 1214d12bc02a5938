from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.core.errors import DataError, RunError
from tunesmith.data.pipeline import RunData, check_data, lay_out, prepare_data
from tunesmith.data.prepared import prepare, workers
from tunesmith.data.prepared.block import Job, Prepared
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.rows import Chunk, Row, RowFault, RowsChunk
from tunesmith.data.validate import judge
from tunesmith.recipe.data import DataPart


def pair(question: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def source(tmp_path: Path) -> TokenizerSource:
    return TokenizerSource(str(make_tokenizer(tmp_path / "tiny-model")))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setattr(prepare, "prepared_root", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def texts(data: RunData, source: TokenizerSource) -> str:
    return "".join(
        source.tokenizer.decode(example.tokens.tolist())
        for example in (*data.train, *data.validation)
    )


class Told(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def test_a_second_start_finds_the_rows_ready(tmp_path: Path, source: TokenizerSource) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", *(pair(f"q{n}", "teal") for n in range(9))))
    told = Told()
    first = prepare_data(part, "chat", source, tell=told)
    again = prepare_data(part, "chat", source, tell=told)
    assert told == [
        "d.jsonl: cache miss: not prepared before",
        "d.jsonl: cache hit, the rows are ready",
    ]
    assert first.train.fingerprint() == again.train.fingerprint()
    assert texts(first, source) == texts(again, source)


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path, source: TokenizerSource) -> None:
    path = tmp_path / "d.jsonl"
    part = DataPart(train=write(path, *(pair(f"q{n}", "teal") for n in range(9))))
    prepare_data(part, "chat", source, tell=Told())
    before = path.stat()
    path.write_text(path.read_text().replace("teal", "ruby", 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    told = Told()
    data = prepare_data(part, "chat", source, tell=told)
    assert told == ["d.jsonl: cache miss: file content changed"]
    assert "ruby" in texts(data, source)


def test_another_tokenizer_or_template_or_setting_is_another_preparation(
    tmp_path: Path, source: TokenizerSource
) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", *(pair(f"q{n}", "teal") for n in range(9))))
    prepare_data(part, "chat", source, tell=Told())
    told = Told()
    other = TokenizerSource(str(make_tokenizer(tmp_path / "other", "strips")))
    prepare_data(part, "chat", other, tell=told)
    system = part.model_copy(update={"system": "Be brief"})
    prepare_data(system, "chat", source, tell=told)
    assert told == [
        "d.jsonl: cache miss: chat template changed",
        "d.jsonl: cache miss: chat template, settings changed",
    ]
    # what is applied to ready rows makes no other preparation
    longer = part.model_copy(update={"max_length": 77, "overflow": "truncate"})
    hit = Told()
    prepare_data(longer, "chat", source, tell=hit)
    assert hit == ["d.jsonl: cache hit, the rows are ready"]


def test_workers_prepare_what_this_process_prepares(
    tmp_path: Path, source: TokenizerSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [pair(f"q{n}", "a" * (n % 7)) if n % 7 else {"messages": []} for n in range(3000)]
    part = DataPart(train=write(tmp_path / "d.jsonl", *rows), on_bad_row="drop")
    here = lay_out(part, "chat", source, tell=Told())
    monkeypatch.setattr(prepare, "SMALL_BYTES", 0)
    monkeypatch.setattr(prepare, "prepared_root", lambda: tmp_path / "other-cache")
    there = lay_out(part, "chat", source, tell=Told())
    assert there.train.fingerprint() == here.train.fingerprint()
    assert there.counts == here.counts
    assert list(there.dropped()) == list(here.dropped())
    assert len(list(there.dropped())) == 429
    assert there.dropped_reasons() == here.dropped_reasons() == {"empty messages": 429}
    assert (there.train_side.file.store.signatures == here.train_side.file.store.signatures).all()


class Failing:
    """A chunk that cannot be decoded."""

    num_rows = 1
    skipped = ()

    def rows(self) -> Iterator[Row | RowFault]:
        raise ValueError("a broken chunk")


class Ending(Failing):
    def rows(self) -> Iterator[Row | RowFault]:
        os._exit(7)


class EndingWithinAnAnswer(Failing):
    def rows(self) -> Iterator[Row | RowFault]:
        os.write(1, pickle.dumps("a" * 100)[:50])
        os._exit(7)


class TellingItsGroup(Failing):
    def rows(self) -> Iterator[Row | RowFault]:
        raise ValueError(f"a group of its own: {os.getpgrp() == os.getpid()}")


def work(chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> list[Prepared]:
    """Send a chunk to one of two workers, between good ones."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[4]))  # they know this module
    row = Row("d.jsonl", 1, pair("q", "a"), 1)
    part = DataPart(train="d.jsonl")
    job = Job(
        judgement=judge([row], part, "chat", file="d.jsonl"),
        part=part, task="chat", files=("d.jsonl",), tokenizer=None,
    )  # fmt: skip
    good = RowsChunk((row,))
    return list(workers.prepare_in_workers(job, [good, chunk, good], num_workers=2))


@pytest.mark.parametrize(
    ("chunk", "error", "words"),
    [
        (Failing(), ValueError, "a broken chunk"),
        (Ending(), RunError, "exit code 7"),
        (EndingWithinAnAnswer(), RunError, "exit code 7"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_raised_here(
    chunk: Chunk, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error, match=words):
        work(chunk, monkeypatch)


def test_an_interrupt_from_the_keyboard_does_not_reach_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="a group of its own: True"):
        work(TellingItsGroup(), monkeypatch)


def test_bad_rows_that_are_left_out_are_all_listed(tmp_path: Path, source: TokenizerSource) -> None:
    file = tmp_path / "d.jsonl"
    write(file, *(pair(f"q{n}", "a") for n in range(9)))
    with file.open("a") as opened:
        opened.write('{"messages": []}\n{"messages": [{"role": "user",]}\n')
    part = DataPart(train=str(file))
    with pytest.raises(DataError) as caught:
        check_data(part, "chat", tell=Told())
    assert len(caught.value.faults) == 2
    data = prepare_data(part.model_copy(update={"on_bad_row": "drop"}), "chat", source, tell=Told())
    dropped = list(data.dropped())
    assert [row.row_id for row in dropped] == ["d.jsonl:10", "d.jsonl:11"]
    assert dropped[0].reason.startswith("empty messages: ")
    assert len(data.train) + len(data.validation) == 9


def test_the_cache_stays_within_its_size(
    tmp_path: Path, source: TokenizerSource, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(prepare, "MAX_CACHE_BYTES", 1)
    for name in ("a", "b"):
        part = DataPart(train=write(tmp_path / f"{name}.jsonl", pair("q", "a"), pair("r", name)))
        prepare_data(part, "chat", source, tell=Told())
    assert len([path for path in cache.iterdir() if (path / "meta.json").is_file()]) == 1
