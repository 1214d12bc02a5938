from __future__ import annotations

from pathlib import Path

from tests.fakes.tiny import make_tokenizer
from tests.unit.data.preparing import prepare, write
from tunesmith.data.also_trained import find_also_trained
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.recipe.data import DataPart

LONG = "The parcel that I sent last week to the town by the lake has not come yet. " * 4


def row(question: str) -> dict[str, str]:
    return {"prompt": question, "completion": "yes"}


def test_held_out_rows_that_are_trained_are_named_exactly_or_nearly(tmp_path: Path) -> None:
    tokenizer = TokenizerSource(str(make_tokenizer(tmp_path / "tiny-model")))
    part = DataPart(
        train=write(tmp_path / "d.jsonl", row("same"), row(LONG), row("other")),
        validation=write(tmp_path / "v.jsonl", row("new"), row(LONG + "So?"), row("same")),
    )
    found = find_also_trained(prepare(part, tokenizer))
    assert found.exact == {"v.jsonl:3"}
    assert found.near == {"v.jsonl:2"}
    assert found.rows == {"v.jsonl:2", "v.jsonl:3"}


def test_a_clean_split_names_none(tmp_path: Path) -> None:
    tokenizer = TokenizerSource(str(make_tokenizer(tmp_path / "tiny-model")))
    rows = [row(f"a question of its own, number {n * n}") for n in range(20)]
    data = prepare(DataPart(train=write(tmp_path / "d.jsonl", *rows)), tokenizer)
    assert not find_also_trained(data).exact
