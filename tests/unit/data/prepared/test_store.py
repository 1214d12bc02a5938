from __future__ import annotations

from pathlib import Path

import numpy as np

from tunesmith.data.conversation import (
    Conversation,
    Labelled,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
    ToolCall,
)
from tunesmith.data.prepared.sample_json import sample_from_json, sample_to_json
from tunesmith.data.prepared.store import (
    CONTROL_TEXT,
    EXAMPLE,
    HAS_END,
    Block,
    Store,
    StoreWriter,
    empty_rows,
    token_type,
)


def block_of(*examples: list[int], label: str = "", keep: bytes = b"") -> Block:
    rows = empty_rows(len(examples))
    rows["line"] = np.arange(1, len(examples) + 1)
    rows["examples"] = 1
    rows["label"] = 0 if label else -1
    about = np.zeros(len(examples), dtype=EXAMPLE)
    about["row"] = np.arange(len(examples))
    about["length"] = [len(tokens) for tokens in examples]
    about["flags"] = HAS_END
    tokens = np.array([token for tokens in examples for token in tokens], dtype=np.int32)
    return Block(
        rows=rows,
        examples=about,
        tokens=tokens,
        weights=(tokens % 2).astype(np.uint8),
        signatures=np.full((len(examples), 32), len(examples), dtype=np.uint32),
        labels=(label,) if label else (),
        samples=((0, keep),) if keep else (),
    )


def write(folder: Path, *blocks: Block, vocabulary: int = 50_000) -> Store:
    folder.mkdir()
    writer = StoreWriter(folder, token_type(vocabulary))
    for block in blocks:
        writer.add(block)
    writer.finish({"files": ["/data/rows.jsonl"]})
    return Store.open(folder)


def test_examples_of_all_blocks_come_back_in_order(tmp_path: Path) -> None:
    store = write(tmp_path / "s", block_of([1, 2, 3], [40_000]), block_of([7, 8]))
    assert [store.example(index).tokens.tolist() for index in range(3)] == [
        [1, 2, 3], [40_000], [7, 8],
    ]  # fmt: skip
    assert store.example(0).weights.tolist() == [1, 0, 1]
    assert store.example(0).tokens.dtype == np.int32
    assert store.example(0).weights.dtype == np.float32
    assert [store.example(index).row_id for index in range(2)] == ["rows.jsonl:1", "rows.jsonl:2"]
    assert store.examples["row"].tolist() == [0, 1, 2]
    assert store.first_example.tolist() == [0, 1, 2, 3]
    assert store.signatures[:, 0].tolist() == [2, 2, 1]
    assert (store.example(0).has_end, store.example(0).control_text) == (True, False)
    assert CONTROL_TEXT != HAS_END


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path: Path) -> None:
    store = write(tmp_path / "s", block_of([100_000, 1]), vocabulary=150_000)
    assert store.example(0).tokens.tolist() == [100_000, 1]
    assert (tmp_path / "s" / "tokens.bin").stat().st_size == 8


def test_labels_of_blocks_share_one_table(tmp_path: Path) -> None:
    store = write(
        tmp_path / "s",
        block_of([1], label="late"), block_of([2]), block_of([3], label="lost"),
        block_of([4], label="late"),
    )  # fmt: skip
    assert store.labels == ("late", "lost")
    assert store.rows["label"].tolist() == [0, -1, 1, 0]


def test_a_store_without_rows_can_be_read(tmp_path: Path) -> None:
    store = write(tmp_path / "s")
    assert (len(store.rows), len(store.examples), store.signatures.shape) == (0, 0, (0, 32))


def test_samples_that_were_kept_come_back_with_their_place(tmp_path: Path) -> None:
    text = sample_to_json(PlainText(text="elm"))
    store = write(tmp_path / "s", block_of([1], [2]), block_of([3], [4], keep=text))
    assert store.sample(0) is None
    assert store.sample(3) is None
    sample = store.sample(2)
    assert isinstance(sample, PlainText)
    assert (sample.text, sample.row_id, sample.file) == ("elm", "rows.jsonl:1", "/data/rows.jsonl")


def test_rows_are_named_as_their_reader_names_them(tmp_path: Path) -> None:
    block = block_of([1], [2], [3])
    block.rows["number"] = [1, 2, 3]
    block.rows["line"] = [0, 5, 5]
    block.rows["in_array"] = [True, False, True]
    store = write(tmp_path / "s", block)
    names = [store.row_id(row) for row in range(3)]
    assert names == ["rows.jsonl#1", "rows.jsonl:5", "rows.jsonl:5#3"]


def test_every_kind_of_sample_survives_its_json() -> None:
    call = ToolCall(name="clock", arguments='{"zone": "Lima"}', id="c1")
    turns = (
        Message("user", "time?", name="Ana"),
        Message("assistant", "", weight=1.0, thinking="hm", tool_calls=(call,)),
        Message("tool", "07:10", tool_call_id="c1"),
        Message("assistant", "It is 07:10.", weight=0.0),
    )
    labelled = Labelled(kind="answers", texts=("a b", "?"), labels=("b", "a"), starts=(2, 0))
    samples: list[Sample] = [
        Conversation(messages=turns, tools=('{"b": 1, "a": 2}',), labelled=labelled),
        Preference(prompt=turns[:1], chosen=turns[3:], rejected=None),
        PromptCompletion(prompt="2+3=", completion="5"),
        PlainText(text="\u017elijeb"),
    ]
    for sample in samples:
        assert sample_from_json(sample_to_json(sample), row_id="", file="", line=0) == sample


def test_a_folder_may_hold_more_files_than_two_bytes_can_number(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, token_type(300))
    block = block_of([1, 2])
    block.rows["file"] = 70_000
    writer.add(block)
    writer.finish({"files": [f"{number}.md" for number in range(70_001)]})
    assert Store.open(tmp_path).row_id(0) == "70000.md:1"
