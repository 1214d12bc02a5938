"""Pairs are planned, fitted and held out as one; ratings one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import make_examples
from tests.fakes.tiny_preference import make_pair_rows, make_pairs, make_rated_rows
from tunesmith.core.errors import DataError
from tunesmith.data.account import data_warnings
from tunesmith.data.mismatch import Mismatched
from tunesmith.data.pack import plan_steps
from tunesmith.data.pipeline import RunData, lay_out
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.units import pair_units, rated_units, single_units
from tunesmith.recipe.data import DataPart


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def lay(tmp_path: Path, file: Path, **values: Any) -> RunData:
    source = TokenizerSource(str(make_tokenizer(tmp_path / "tokenizer")))
    part = DataPart.model_validate({"train": str(file), "validation": "20%", **values})
    return lay_out(part, "preference", source, tell=lambda _: None)


def write(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def pair(number: int, chosen: str = "yes", rejected: str = "no") -> dict[str, Any]:
    return {"prompt": f"question {number}", "chosen": chosen, "rejected": rejected}


def test_both_answers_of_a_pair_are_in_one_micro_batch_and_count_together(tmp_path: Path) -> None:
    data = lay(tmp_path, make_pair_rows(tmp_path / "pairs.jsonl", 40))
    units = pair_units(data.train, file="pairs.jsonl", loss="dpo")
    assert len(units.members) * 2 == len(data.train)
    plan = plan_steps(
        units.lengths, padded=units.padded, epochs=1, max_steps=None, tokens_per_step=512,
        micro_batch_tokens=300, seed=0,
    )  # fmt: skip
    seen: list[int] = []
    lengths, rows = data.train.lengths, data.train.rows
    for step in units.spell_out(plan):
        assert lengths[list(step.rows)].sum() <= 512
        for members in step.micro_batches:
            chosen, rejected = members[::2], members[1::2]
            assert [data.train[i].part for i in chosen] == ["chosen"] * len(chosen)
            assert rows[list(chosen)].tolist() == rows[list(rejected)].tolist()
            assert len(members) * lengths[list(members)].max() <= 300
            seen += members
    assert sorted(seen) == list(range(len(data.train)))


def test_no_pair_has_a_side_on_either_side_of_the_split(tmp_path: Path) -> None:
    data = lay(tmp_path, make_pair_rows(tmp_path / "pairs.jsonl", 40))
    assert len(data.validation) >= 4
    assert not set(data.train.rows) & set(data.validation.rows)
    spread = data.validation.spread_rows(2)
    assert [example.part for example in spread] == ["chosen", "rejected"] * 2


@pytest.mark.parametrize("long_side", ["chosen", "rejected"])
def test_a_pair_with_one_answer_that_is_too_long_is_left_out_whole(
    tmp_path: Path, long_side: str
) -> None:
    long = pair(2, **{long_side: "word " * 100})
    file = write(tmp_path, pair(1), long, pair(3), pair(4))
    data = lay(tmp_path, file, overflow="drop", max_length=80, validation=str(file))
    parts = [(example.row_id, example.part) for example in data.train]
    kept = [f"pairs.jsonl:{line}" for line in (1, 3, 4)]
    assert parts == [(row, part) for row in kept for part in ("chosen", "rejected")]
    (dropped,) = data.train_side.dropped(data.part)
    assert dropped.row_id == "pairs.jsonl:2"
    assert "more than max_length 80" in dropped.reason
    assert data.train_side.fitted.rows_dropped == 1
    assert any("rows are left out" in text for text in data_warnings(data, "dropped.jsonl"))


def test_a_pair_whose_both_answers_are_too_long_is_named_once(tmp_path: Path) -> None:
    file = write(tmp_path, pair(1), pair(2, "word " * 100, "other " * 100), pair(3))
    data = lay(tmp_path, file, overflow="drop", max_length=80, validation=str(file))
    assert [row.row_id for row in data.train_side.dropped(data.part)] == ["pairs.jsonl:2"]


def test_a_pair_that_is_cut_keeps_both_answers_and_is_counted_once(tmp_path: Path) -> None:
    file = write(tmp_path, pair(1), pair(2, "word " * 100, "other " * 100))
    data = lay(tmp_path, file, overflow="truncate", max_length=80, validation=str(file))
    assert data.train.lengths.tolist()[2:] == [80, 80]
    assert data.train_side.fitted.rows_truncated == 1


def test_a_pair_whose_prompt_leaves_no_room_for_one_answer_is_left_out(tmp_path: Path) -> None:
    """Cut within its prompt, an answer would be trained with nothing; so is not the other one."""
    long = {"prompt": "word " * 200, "chosen": "yes", "rejected": "no"}
    file = write(tmp_path, pair(1), long)
    data = lay(tmp_path, file, overflow="truncate", max_length=80, validation=str(file))
    assert len(data.train) == 2
    assert [row.row_id for row in data.train_side.dropped(data.part)] == ["pairs.jsonl:2"]


def test_the_same_pair_twice_is_used_once_and_turned_round_it_is_another(tmp_path: Path) -> None:
    file = write(tmp_path, pair(1), pair(1), pair(1, "no", "yes"), pair(2))
    data = lay(tmp_path, file, validation=str(file))
    assert data.counts.duplicates == 1
    assert len(data.train) == 6


def test_rated_rows_are_units_of_their_own_and_refused_as_pairs(tmp_path: Path) -> None:
    data = lay(tmp_path, make_rated_rows(tmp_path / "rated.jsonl", 30))
    units = rated_units(data.train, file="rated.jsonl")
    assert units.members[:, 0].tolist() == list(range(len(data.train)))
    assert set(data.train.is_rejected.tolist()) == {True, False}
    with pytest.raises(DataError, match="orpo learns from pairs"):
        pair_units(data.train, file="rated.jsonl", loss="orpo")


def test_ratings_of_one_kind_are_refused(tmp_path: Path) -> None:
    data = lay(tmp_path, make_pair_rows(tmp_path / "pairs.jsonl", 20))
    bad = data.train.take(data.train.is_rejected.nonzero()[0])
    with pytest.raises(DataError, match="are rated bad; kto learns from both kinds"):
        rated_units(bad, file="pairs.jsonl")
    assert single_units(bad).lengths == bad.lengths.tolist()


def test_a_mismatched_row_has_the_answer_of_the_next_other_prompt() -> None:
    examples = make_pairs([(9, 14), (40, 12)])
    mismatched = Mismatched(examples, 30)
    for index, other in ((0, 2), (1, 2), (2, 0), (3, 0)):
        made, own, answer = mismatched[index], examples[index], examples[other]
        border = int((own.weights == 0).sum())
        expected = [*own.tokens[:border], *answer.tokens[answer.weights > 0]]
        assert made.tokens.tolist() == expected[:30]
        assert made.weights.tolist() == [0.0] * border + [1.0] * (len(made.tokens) - border)


def test_rows_with_one_prompt_are_mismatched_with_each_other() -> None:
    same = make_examples([20, 22, 25], shared_prefix=12)
    for example in same:
        example.weights[:12], example.weights[12:] = 0.0, 1.0
    assert Mismatched(same, 100)[2].tokens[12:].tolist() == same[0].tokens[12:].tolist()
