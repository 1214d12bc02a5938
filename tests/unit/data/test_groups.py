"""`data.group`: rows that share a value are trained together or held out together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.unit.data.preparing import check, prepare, write
from tunesmith.core.errors import DataError
from tunesmith.data.conversation import texts_of
from tunesmith.data.prepared.examples import samples_of
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.recipe.data import DataPart


@pytest.fixture
def tokenizer(tmp_path: Path) -> TokenizerSource:
    return TokenizerSource(str(make_tokenizer(tmp_path / "tiny-model")))


def row(article: object, number: int) -> dict[str, Any]:
    return {"about": {"article": article}, "prompt": f"{article}-{number}", "completion": "x"}


def part_of(path: Path, *rows: dict[str, Any], group: str = "about.article") -> DataPart:
    return DataPart.model_validate(
        {"train": write(path / "d.jsonl", *rows), "validation": "20%", "group": group}
    )


def test_no_group_is_on_both_sides(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    rows = [row(article, number) for number in range(5) for article in range(12)]
    data = prepare(part_of(tmp_path, *rows), tokenizer)
    held_out = [texts_of(sample)[0].split("-")[0] for sample in samples_of(data.validation)]
    assert len(data.train) + len(data.validation) == 60
    assert {held_out.count(article) for article in held_out} == {5}
    assert "about" not in dict(data.counts.ignored_columns)


def test_a_row_without_its_group_is_a_fault_that_names_it(tmp_path: Path) -> None:
    rows = [row("a", 1), {"prompt": "b", "completion": "c"}, row(None, 2), row([1], 3)]
    with pytest.raises(DataError) as caught:
        check(part_of(tmp_path, *rows))
    text = str(caught.value)
    assert "d.jsonl:2" in text
    assert "d.jsonl:3" in text
    assert "a list" in text
    assert "data.group" in text


def test_a_column_that_is_not_there_is_told_with_the_columns_that_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no column "artikle"') as caught:
        check(part_of(tmp_path, {"prompt": "a", "completion": "b", "article": 1}, group="artikle"))
    assert 'did you mean "article"? Set data.group' in str(caught.value)


def test_a_single_group_cannot_be_split(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    with pytest.raises(DataError, match=r"all rows have the same about\.article"):
        prepare(part_of(tmp_path, *(row("a", n) for n in range(9))), tokenizer)


def test_a_file_of_held_out_rows_needs_no_group() -> None:
    given = {"train": "a.jsonl", "validation": "b.jsonl", "group": "article"}
    with pytest.raises(ValueError, match=r"data\.validation is a file"):
        DataPart.model_validate_json(json.dumps(given))


def test_the_rows_of_a_last_test_need_no_group(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    part = part_of(tmp_path, *(row(article, 1) for article in range(9)))
    test = write(tmp_path / "t.jsonl", {"prompt": "q", "completion": "r"})
    data = prepare(part.model_copy(update={"test": test}), tokenizer)
    assert data.test_side is not None
    assert len(data.test_side.examples) == 1
