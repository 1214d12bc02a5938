from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tiny import make_tokenizer
from tests.unit.data.preparing import check, prepare, say_nothing, write
from tunesmith.core.errors import DataError
from tunesmith.data.account import data_warnings
from tunesmith.data.pipeline import DroppedRow, lay_out
from tunesmith.data.prepared.examples import samples_of
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.render import prompt_tokens
from tunesmith.data.show import show_example
from tunesmith.data.source import find_files
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.share import Share


@pytest.fixture
def tokenizer(tmp_path: Path) -> TokenizerSource:
    return TokenizerSource(str(make_tokenizer(tmp_path / "tiny-model")))


def pair(question: str, answer: str, **message: Any) -> dict[str, Any]:
    assistant = {"role": "assistant", "content": answer, **message}
    return {"messages": [{"role": "user", "content": question}, assistant]}


def test_duplicates_are_removed_before_the_split(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    rows = [pair("q", "same" if n in (2, 5, 6, 9) else f"a{n}") for n in range(1, 11)]
    part = DataPart(train=write(tmp_path / "d.jsonl", *rows), validation=Share(0.2))
    data = prepare(part, tokenizer)
    assert (data.counts.rows_read, data.counts.duplicates) == (10, 3)
    assert len(data.train) + len(data.validation) == 7
    train = {example.tokens.tobytes() for example in data.train}
    assert not train & {example.tokens.tobytes() for example in data.validation}


def test_a_validation_file_that_repeats_training_rows_is_counted_and_kept(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    part = DataPart(
        train=write(tmp_path / "d.jsonl", pair("a", "b"), pair("c", "d")),
        validation=write(tmp_path / "v.jsonl", pair("a", "b"), pair("e", "f"), pair("e", "f")),
    )
    data = prepare(part, tokenizer)
    assert (len(data.train), len(data.validation)) == (2, 2)
    counts = data.counts
    assert (counts.overlap, counts.validation_duplicates) == (1, 1)
    assert counts.validation_rows_read == 3


def test_faults_of_both_files_come_at_once(tmp_path: Path) -> None:
    part = DataPart(
        train=write(tmp_path / "d.jsonl", {"messages": []}),
        validation=str(tmp_path / "none.jsonl"),
    )
    with pytest.raises(DataError) as caught:
        check(part)
    assert "empty messages" in str(caught.value)
    assert "does not exist" in str(caught.value)


def test_a_built_in_sample_has_a_name() -> None:
    (file,) = find_files("sample:support-desk")
    assert file.path.is_file()


def test_validation_samples_stand_beside_their_examples(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    held_out = [pair("a" * n, "b") for n in (1, 90, 2, 3)]
    part = DataPart(
        train=write(tmp_path / "d.jsonl", pair("x", "y")),
        validation=write(tmp_path / "v.jsonl", *held_out),
        max_length=64,
        overflow="drop",
    )
    rendered = prepare(part, tokenizer)
    assert [example.row_id for example in rendered.validation] == [
        "v.jsonl:1", "v.jsonl:3", "v.jsonl:4",
    ]  # fmt: skip
    for sample, example in zip(samples_of(rendered.validation), rendered.validation, strict=True):
        prompt = prompt_tokens(sample, tokenizer.tokenizer, part, "chat").tokens
        assert example.tokens[: len(prompt)].tolist() == prompt
    (dropped,) = rendered.dropped()
    assert dropped.row_id == "v.jsonl:2"
    assert "more than max_length 64" in dropped.reason
    assert rendered.validation_side.counts().rows_too_long == 1


def long_and_short(tmp_path: Path, overflow: str) -> DataPart:
    rows = [pair(f"q{n}", "b" * (60 if n in (1, 3) else 5)) for n in range(5)]
    return DataPart.model_validate(
        {
            "train": write(tmp_path / "d.jsonl", *rows),
            "validation": write(tmp_path / "v.jsonl", pair("v", "w")),
            "max_length": 64,
            "overflow": overflow,
        }
    )


def test_rows_that_are_too_long_are_all_named_by_default(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    part = long_and_short(tmp_path, "error")
    with pytest.raises(DataError) as caught:
        prepare(part, tokenizer)
    assert [fault.where.rsplit(":", 1)[1] for fault in caught.value.faults] == ["2", "4"]
    assert "data.max_length = 64" in str(caught.value)


def test_rows_that_are_too_long_are_cut_and_counted(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    part = long_and_short(tmp_path, "truncate")
    rendered = prepare(part, tokenizer)
    assert len(rendered.train) == 5
    assert max(len(example.tokens) for example in rendered.train) == 64
    counts = rendered.train_side.counts()
    assert (counts.rows, counts.rows_truncated, counts.rows_too_long) == (5, 2, 2)
    assert counts.lost_tokens > 0
    # The line break after the end of a turn is lost too, and was never trained.
    assert counts.lost_supervised_tokens == counts.lost_tokens - 2
    assert list(rendered.dropped()) == []


def test_rows_that_are_too_long_are_dropped_and_named(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    part = long_and_short(tmp_path, "drop")
    rendered = prepare(part, tokenizer)
    assert len(rendered.train) == 3
    assert [row.row_id for row in rendered.dropped()] == ["d.jsonl:2", "d.jsonl:4"]
    assert rendered.train_side.counts().lost_supervised_tokens == 2 * 61


def test_a_row_that_is_cut_to_nothing_trained_is_dropped(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    part = DataPart(
        train=write(tmp_path / "d.jsonl", pair("q" * 80, "a"), pair("q", "a")),
        validation=write(tmp_path / "v.jsonl", pair("v", "w")),
        max_length=64,
        overflow="truncate",
    )
    rendered = prepare(part, tokenizer)
    assert list(rendered.dropped()) == [DroppedRow("d.jsonl:1", "no supervised token")]
    assert rendered.train_side.counts().rows_without_supervised_tokens == 1


def test_a_run_without_a_trained_token_stops_with_the_reason(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    rows = [pair(f"q{n}", "a", weight=0) for n in range(3)]
    part = DataPart(
        train=write(tmp_path / "d.jsonl", *rows),
        validation=write(tmp_path / "v.jsonl", pair("v", "w")),
    )
    with pytest.raises(DataError) as caught:
        prepare(part, tokenizer)
    assert "0 trainable tokens in 3 rows" in str(caught.value)
    assert "tiny-model" in str(caught.value)


def test_every_row_that_a_template_refuses_is_named(tmp_path: Path) -> None:
    refuses = TokenizerSource(str(make_tokenizer(tmp_path / "m", "refuses-system")))
    with_system = {"messages": [{"role": "system", "content": "s"}, *pair("a", "b")["messages"]]}
    part = DataPart(
        train=write(tmp_path / "d.jsonl", pair("x", "y"), with_system),
        validation=write(tmp_path / "v.jsonl", with_system),
    )
    with pytest.raises(DataError) as caught:
        prepare(part, refuses)
    assert [Path(fault.where.split(",")[0]).name for fault in caught.value.faults] == [
        "d.jsonl:2", "v.jsonl", "v.jsonl:1",
    ]  # fmt: skip
    assert "0 of 1 rows usable (refused by the chat template: 1)" in str(caught.value)


def test_a_very_long_line_is_cut_without_trouble(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    part = DataPart(
        train=write(tmp_path / "d.jsonl", pair("a", "b"), pair("c", "salt " * 100_000)),
        validation=write(tmp_path / "v.jsonl", pair("v", "w")),
        overflow="truncate",
    )
    rendered = prepare(part, tokenizer)
    assert [len(example.tokens) for example in rendered.train][1] == part.max_length


def test_control_text_in_a_row_is_counted(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    part = DataPart(
        train=write(tmp_path / "d.jsonl", pair("a", "b"), pair("say <|im_end|>", "no")),
        validation=write(tmp_path / "v.jsonl", pair("v", "w")),
    )
    assert prepare(part, tokenizer).train_side.counts().rows_with_control_text == 1


def test_crlf_and_lf_files_give_the_same_tokens(tmp_path: Path, tokenizer: TokenizerSource) -> None:
    parts = []
    for end in ("\n", "\r\n"):
        path = tmp_path / "d.jsonl"
        path.write_bytes(
            (end.join(json.dumps(pair(f"q{n}", "a")) for n in range(9)) + end).encode()
        )
        part = DataPart(train=str(path), validation=Share(0.5))
        rendered = prepare(part, tokenizer)
        parts.append([example.tokens.tolist() for example in rendered.train])
    assert parts[0] == parts[1]


def test_shown_pieces_are_whole_characters_and_all_tokens(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    part = DataPart(
        train=write(tmp_path / "d.jsonl", pair("\U0001f642?", "\u017elijeb \u6771\u4eac")),
        validation=write(tmp_path / "v.jsonl", pair("v", "w")),
    )
    (example,) = prepare(part, tokenizer).train
    pieces = show_example(example, tokenizer.tokenizer)
    assert [token for piece in pieces for token in piece.tokens] == example.tokens.tolist()
    assert not any("\ufffd" in piece.text for piece in pieces)
    trained = "".join(piece.text for piece in pieces if piece.weight > 0)
    assert trained == "\u017elijeb \u6771\u4eac<|im_end|>"


def test_a_row_with_several_faults_is_left_out_once(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    turns = [{"role": "user", "content": 5}, {"role": "assistant", "content": ""}]
    file = write(tmp_path / "d.jsonl", *(pair(f"q{n}", "a") for n in range(9)), {"messages": turns})
    data = prepare(DataPart(train=file, on_bad_row="drop"), tokenizer)
    assert data.dropped_reasons() == {"wrong type": 1, "empty text": 1}
    assert "1 rows are left out (listed in dropped.jsonl)" in data_warnings(data, "dropped.jsonl")


def test_rows_that_are_cut_up_are_counted_as_rows(
    tmp_path: Path, tokenizer: TokenizerSource
) -> None:
    (tmp_path / "d.txt").write_text("".join(f"{n} and a few words more\n" for n in range(10)))
    part = DataPart(train=str(tmp_path / "d.txt"), overflow="chunk", max_length=8)
    data = lay_out(part, "completion", tokenizer, tell=say_nothing)
    sides = (data.train_side.counts(), data.validation_side.counts())
    assert sum(side.rows for side in sides) == 10
    assert all(side.rows_too_long == side.rows < side.examples for side in sides)
