from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.fakes.tiny import TEMPLATES, make_tokenizer
from tunesmith.data.pipeline import RunData, check_data, prepare_data
from tunesmith.data.prepared import prepare, tokenizer_source
from tunesmith.data.prepared.examples import samples_of
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.recipe.data import DataPart


def write(path: Path, *words: str) -> str:
    rows = [
        [{"role": "user", "content": word}, {"role": "assistant", "content": "teal"}]
        for word in words
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_tokenizer(tmp_path / "tiny-model")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setattr(prepare, "prepared_root", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def prepared(part: DataPart, model: Path) -> tuple[RunData, str]:
    told: list[str] = []
    data = prepare_data(part, "chat", TokenizerSource(str(model)), tell=told.append)
    return data, told[0].partition(": ")[2]


def change_config(model: Path, **values: Any) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_token_that_only_the_configuration_adds_is_seen(tmp_path: Path, model: Path) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", "a<new>", "b<new>"))
    prepared(part, model)
    token = {"content": "<new>", "special": False, "normalized": False}
    marks = dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
    change_config(model, added_tokens_decoder={"600": {**token, **marks}})
    assert prepared(part, model)[1] == "cache miss: tokenizer changed"


def test_the_template_for_rows_with_tools_is_seen(tmp_path: Path, model: Path) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", "a", "b"))
    said: list[str] = []
    for text in ("old", "new"):
        templates = [("default", TEMPLATES["chatml"]), ("tool_use", text)]
        change_config(
            model, chat_template=[{"name": name, "template": text} for name, text in templates]
        )
        said.append(prepared(part, model)[1])
    assert said == ["cache miss: not prepared before", "cache miss: chat template changed"]


def test_rows_that_hold_yesterdays_date_are_prepared_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_tokenizer(tmp_path / "dated", "{{ strftime_now('%d') }}" + TEMPLATES["chatml"])
    part = DataPart(train=write(tmp_path / "d.jsonl", "a", "b"))
    prepared(part, model)
    assert prepared(part, model)[1] == "cache hit, the rows are ready"
    monkeypatch.setattr(tokenizer_source, "_today", lambda: "2000-01-02")
    assert prepared(part, model)[1] == "cache miss: date changed"


def test_an_unfinished_note_of_what_was_prepared_stops_nothing(
    tmp_path: Path, model: Path, cache: Path
) -> None:
    file = write(tmp_path / "d.jsonl", "a", "b")
    prepared(DataPart(train=file), model)
    for path in (cache / "last").iterdir():
        path.write_text("")
    write(tmp_path / "d.jsonl", "a", "c")
    assert prepared(DataPart(train=file), model)[1] == "cache miss: not prepared before"


def test_a_row_that_crosses_over_to_be_held_out_has_its_text(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "SMALL_BYTES", 0)
    part = DataPart(
        train=write(tmp_path / "d.jsonl", *"abcde"),
        validation="0.0001%",  # pyright: ignore[reportArgumentType]
    )
    data, _ = prepared(part, model)
    assert len(data.validation) == len(list(samples_of(data.validation))) == 1


def test_rows_that_are_only_checked_are_not_written_down(tmp_path: Path) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", "a", "b"))
    (file,) = check_data(part, "chat", tell=print)
    assert len(file.store.rows) == 2
    assert not (file.store.folder / "samples.bin").read_bytes()


def test_rows_in_use_are_not_deleted_to_make_room(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "MAX_CACHE_BYTES", 1)
    train, held_out = write(tmp_path / "t.jsonl", *"abc"), write(tmp_path / "v.jsonl", *"xy")
    data, _ = prepared(DataPart(train=train, validation=held_out), model)
    assert len(data.train) == 3
    assert len(data.validation) == 2
    assert list(data.dropped()) == []


def test_rows_that_are_deleted_while_they_are_looked_for_are_prepared_anew(
    tmp_path: Path, model: Path, cache: Path
) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", *"abc"))
    prepared(part, model)
    for path in cache.glob("*/meta.json"):
        path.unlink()
    assert prepared(part, model)[1] == "cache miss: the prepared rows were deleted"


def test_what_a_process_that_died_left_is_deleted_in_time(
    tmp_path: Path, model: Path, cache: Path
) -> None:
    for name, age in ((".building-old", 2 * 24 * 3600), (".building-new", 10)):
        (cache / name).mkdir(parents=True)
        (cache / name / "tokens.bin").write_bytes(b"1")
        written = time.time() - age
        os.utime(cache / name / "tokens.bin", (written, written))
        os.utime(cache / name, (written, written))
    prepared(DataPart(train=write(tmp_path / "d.jsonl", "a", "b")), model)
    assert [path.name for path in cache.glob(".building-*")] == [".building-new"]


def test_a_cache_that_may_only_be_read_serves(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", "a", "b"))
    prepared(part, model)

    def refuse(*given: object) -> None:
        raise PermissionError(1, "not yours", str(given))

    monkeypatch.setattr(os, "utime", refuse)
    assert prepared(part, model)[1] == "cache hit, the rows are ready"


def test_tokens_numbered_past_a_gap_keep_their_numbers(tmp_path: Path, model: Path) -> None:
    document = json.loads((model / "tokenizer.json").read_text())
    document["model"]["vocab"]["zz"] = 70_000
    document["model"]["merges"].append(["z", "z"])
    (model / "tokenizer.json").write_text(json.dumps(document))
    assert Tokenizer.from_file(str(model / "tokenizer.json")).encode("zz").ids == [70_000]
    part = DataPart(train=write(tmp_path / "d.jsonl", *(f"zz{n}" for n in range(9))))
    data, _ = prepared(part, model)
    assert 70_000 in data.train[0].tokens


def test_a_file_of_the_folder_that_is_run_in_is_not_taken_for_a_library(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = DataPart(train=write(tmp_path / "d.jsonl", "a", "b"))
    (tmp_path / "numpy.py").write_text("raise SystemExit('not the library')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare, "SMALL_BYTES", 0)
    assert len(prepared(part, model)[0].train) == 1
