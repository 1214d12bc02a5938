from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.fakes.tiny import make_tokenizer
from tests.unit.data.xray_sides import look, side
from tunesmith.data.conversation import Conversation, Message
from tunesmith.data.minhash import signatures
from tunesmith.data.render import Example, render
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.data.xray.build import SideArrays
from tunesmith.data.xray.facts import BosCounts, DroppedRows, XRay
from tunesmith.data.xray.labels import LabelCount
from tunesmith.data.xray.lengths import Bin, measure
from tunesmith.data.xray.numbers import headline
from tunesmith.data.xray.overlap import RowText
from tunesmith.data.xray.serving import ServingCheck, check_serving
from tunesmith.recipe.data import DataPart

# No two of them have much in common.
SENTENCES = [
    " ".join(f"{word}{n}" for word in ("ferry", "leaves", "when", "tide", "is", "low")) * 4
    for n in range(100, 200)
]


def sentences(xray: XRay, severity: str) -> list[str]:
    return [verdict.sentence for verdict in xray.verdicts if verdict.severity == severity]


def test_rows_in_order_have_no_verdicts() -> None:
    xray = look(side([10, 20, 30]))
    assert xray.verdicts == ()
    train = xray.sides["train"]
    assert (train.rows, train.examples, train.tokens, train.supervised_tokens) == (3, 3, 60, 12)
    assert train.trained_tokens == 12
    assert train.lengths is not None
    assert (train.lengths.shortest, train.lengths.median, train.lengths.longest) == (10, 20, 30)


def test_the_histogram_holds_every_row_once() -> None:
    lengths = measure([5, 5, 6, 30, 64])
    assert lengths is not None
    assert lengths.histogram[0] == Bin(5, 9, 3)
    assert sum(bin.rows for bin in lengths.histogram) == 5
    assert lengths.histogram[-1].high >= 64
    assert len(lengths.histogram) == 12
    assert measure([7, 7]) is not None
    assert measure([7, 7]).histogram == (Bin(7, 7, 2),)  # pyright: ignore[reportOptionalMemberAccess]
    assert measure([]) is None


def test_what_cutting_costs_is_counted_in_rows_and_tokens() -> None:
    arrays = side(
        [10, 100, 100, 20],
        supervised=[4, 40, 8, 4],
        used_lengths=[10, 64, 0, 20],
        used_supervised=[4, 10, 0, 4],
    )
    xray = look(arrays, max_length=64, overflow="truncate")
    train = xray.sides["train"]
    assert (train.rows_too_long, train.rows_cut, train.rows_left_out) == (2, 1, 1)
    assert (train.lost_tokens, train.lost_supervised_tokens) == (136, 38)
    assert train.trained_tokens == 18
    (warning,) = xray.verdicts
    assert warning.severity == "warning"
    assert warning.sentence == (
        "data.max_length (64) takes away 68% of the trained tokens of the training rows: "
        "1 cut, 1 left out"
    )
    assert "95% of rows have up to 100 tokens" in warning.remedy


def test_a_little_lost_by_cutting_is_no_warning() -> None:
    arrays = side([10] * 99 + [65], used_lengths=[10] * 99 + [64], used_supervised=[4] * 99 + [3])
    assert look(arrays, max_length=64, overflow="truncate").verdicts == ()


def test_rows_that_are_too_long_stop_a_run_by_default() -> None:
    arrays = side([10, 100], used_lengths=[10, 0], used_supervised=[4, 0])
    xray = look(arrays, max_length=64)
    assert xray.errors[0].sentence == (
        "1 of 2 training rows exceed data.max_length (64); the longest has 100 tokens"
    )
    assert xray.errors[0].remedy.endswith("data.overflow: truncate or drop")
    text = look(arrays, max_length=64, task="completion", form="text")
    assert text.errors[0].remedy.endswith("data.overflow: chunk, truncate or drop")


def test_a_long_text_that_is_cut_into_pieces_loses_nothing() -> None:
    arrays = side([100], supervised=[99], used_lengths=[102], used_supervised=[99])
    xray = look(arrays, max_length=64, overflow="chunk")
    assert xray.verdicts == ()
    train = xray.sides["train"]
    assert (train.rows_too_long, train.rows_cut, train.lost_tokens) == (1, 0, 0)


def test_one_row_is_called_a_row() -> None:
    xray = look(side([10], supervised=[0]))
    assert headline(xray) == "0 tokens are trained, of 10 in 1 row, as tiny sees them."
    assert xray.errors[0].sentence.startswith("0 trainable tokens in 1 row,")


def test_nothing_to_train_is_an_error_that_names_the_model() -> None:
    xray = look(side([10, 20], supervised=[0, 0]))
    (error,) = xray.errors
    assert error.sentence == "0 trainable tokens in 2 rows, rendered with tiny: no row has one"
    assert "data.train_on" in error.remedy


def test_everything_lost_to_the_length_limit_is_an_error() -> None:
    arrays = side([100], used_lengths=[0], used_supervised=[0])
    xray = look(arrays, max_length=64, overflow="drop")
    assert "all 4 lie in rows longer than 64 tokens" in xray.errors[0].sentence


def test_more_than_one_percent_of_rows_without_a_trained_token_stops() -> None:
    some = look(side([10] * 100, supervised=[0, 0] + [4] * 98))
    assert sentences(some, "error") == [
        "there is no token to train in 2 of 100 training rows, more than 1%"
    ]
    assert "data.on_bad_row: drop" in some.errors[0].remedy
    one = look(side([10] * 100, supervised=[0] + [4] * 99))
    assert sentences(one, "error") == []
    assert sentences(one, "warning") == [
        "there is no token to train in 1 of 100 training rows: they are left out"
    ]


def test_rows_without_a_trained_token_may_be_left_out_where_bad_rows_may() -> None:
    xray = look(side([10] * 10, supervised=[0] + [4] * 9), on_bad_row="drop")
    assert xray.errors == ()
    assert len(xray.verdicts) == 1


def test_a_row_that_cutting_leaves_untrained_is_no_row_without_a_trained_token() -> None:
    arrays = side([100, 10], used_lengths=[0, 10], used_supervised=[0, 4])
    xray = look(arrays, max_length=64, overflow="truncate")
    assert xray.sides["train"].rows_unsupervised == 0
    assert xray.errors == ()


def test_rows_of_several_examples_are_counted_once() -> None:
    arrays = side(
        [10, 90, 90, 10],
        num_rows=2,
        example_row=[0, 0, 1, 1],
        supervised=[0, 4, 4, 4],
        used_lengths=[10, 0, 0, 10],
        used_supervised=[0, 0, 0, 4],
        has_end=[True, False, False, True],
        control_text=[True, True, False, False],
        num_bos=[1, 2, 0, 2],
    )
    xray = look(arrays, max_length=64, overflow="drop")
    train = xray.sides["train"]
    assert (train.rows, train.examples) == (2, 4)
    assert (train.rows_too_long, train.rows_left_out) == (2, 2)
    assert train.rows_unsupervised == 0
    assert train.rows_without_end_of_turn == 2
    assert train.rows_with_control_text == 1
    assert train.bos == BosCounts(none=0, one=0, several=2)


def test_a_reply_whose_end_is_not_trained_is_a_warning() -> None:
    some = look(side([10, 10], has_end=[True, False]))
    assert "not trained in 1 of 2 training rows" in some.verdicts[0].sentence
    none = look(side([10, 10], has_end=[False, False]))
    assert "not trained in any training row" in none.verdicts[0].sentence


def test_begin_tokens_are_counted_and_two_are_a_warning() -> None:
    xray = look(side([10, 10, 10], num_bos=[0, 1, 2]))
    assert xray.sides["train"].bos == BosCounts(none=1, one=1, several=1)
    assert sentences(xray, "warning") == ["there are two begin tokens in 1 of 3 training rows"]


def test_a_missing_begin_token_is_a_warning_where_the_model_has_one() -> None:
    xray = look(side([10, 10, 10], num_bos=[0, 1, 1]), adds_bos=True)
    assert sentences(xray, "warning") == [
        "the begin token that tiny expects is missing in 1 of 3 training rows"
    ]


def test_control_text_is_a_warning() -> None:
    xray = look(side([10, 10], control_text=[False, True]))
    assert "1 of 2 training rows" in xray.verdicts[0].sentence


def two_sides(train: list[str], validation: list[str]) -> dict[str, SideArrays]:
    def arrays(texts: list[str]) -> SideArrays:
        return side(
            [10] * len(texts),
            contents=np.array([zlib.crc32(text.encode()) for text in texts], dtype=np.uint64),
            signatures=signatures(texts),
        )

    return {"train": arrays(train), "validation": arrays(validation)}


def test_rows_in_two_sides_are_counted_exactly_and_nearly() -> None:
    train = SENTENCES[:60]
    validation = [*SENTENCES[60:98], train[7], train[9].replace("tide", "ebb", 1)]

    def look_up(name: str, row: int) -> RowText:
        return RowText(f"{name}.jsonl:{row + 1}", (train if name == "train" else validation)[row])

    xray = look(two_sides(train, validation), look_up=look_up)
    (overlap,) = xray.overlaps
    assert (overlap.side, overlap.other, overlap.exact) == ("validation", "train", 1)
    (pair,) = overlap.exact_pairs
    assert (pair.first.row_id, pair.second.row_id) == ("validation.jsonl:39", "train.jsonl:8")
    assert pair.first.text == pair.second.text == train[7]
    near = {pair.first.row_id: pair.second.row_id for pair in overlap.near_pairs}
    assert near["validation.jsonl:40"] == "train.jsonl:10"
    assert "1 of 40 validation rows are training rows too" in sentences(xray, "warning")


def test_sides_that_differ_do_not_overlap() -> None:
    xray = look(two_sides(SENTENCES[:90], SENTENCES[90:]))
    assert (xray.overlaps[0].exact, xray.overlaps[0].near) == (0, 0)
    assert xray.verdicts == ()


def test_a_test_file_is_held_against_both_other_sides() -> None:
    sides = two_sides(["oak and elm"], ["ash and fir"])
    sides["test"] = two_sides(["oak and elm", "ash and fir"], [])["train"]
    xray = look(sides)
    found = {(overlap.side, overlap.other): overlap.exact for overlap in xray.overlaps}
    assert found == {
        ("validation", "train"): 0, ("test", "train"): 1, ("test", "validation"): 1,
    }  # fmt: skip


def test_many_near_duplicates_are_a_warning() -> None:
    texts = [f"{SENTENCES[0]} {SENTENCES[1]} {SENTENCES[2]} {n}" for n in range(4)]
    texts += [f"{n * 31} is a number that {n * 17} follows after {n * 3}" * n for n in range(2, 10)]
    xray = look(side([10] * len(texts), signatures=signatures(texts)))
    near = xray.sides["train"].near
    assert near is not None
    assert (near.rows, near.clusters, near.largest) == (4, 1, 4)
    assert near.pairs[0].first == RowText("row 1 of train", "")
    assert sentences(xray, "warning") == [
        "4 of 12 training rows nearly repeat another, the largest cluster is 4 rows"
    ]


def test_labels_are_counted_the_frequent_ones_by_name() -> None:
    codes = [label for label in range(25) for _ in range(40 - label)]
    names = [f"label {n:02}" for n in range(25)]
    arrays = side([10] * (len(codes) + 2), label_codes=[*codes, -1, -1], label_names=names)
    labels = look(arrays).sides["train"].labels
    assert labels is not None
    assert (labels.labels, labels.labelled_rows, labels.unlabelled_rows) == (25, len(codes), 2)
    assert labels.most_frequent[0] == LabelCount("label 00", 40)
    assert len(labels.most_frequent) == 20
    assert (labels.other_labels, labels.other_rows) == (5, 20 + 19 + 18 + 17 + 16)
    assert labels.imbalance == 40 / 16


def test_rows_without_labels_have_no_label_balance() -> None:
    assert look(side([10])).sides["train"].labels is None
    assert look(side([10], label_codes=[-1])).sides["train"].labels is None


def test_one_label_over_nine_tenths_is_a_warning() -> None:
    arrays = side([10] * 20, label_codes=[0] * 19 + [1], label_names=["yes", "no"])
    assert "the label 'yes' is that of 19 of 20 training rows" in look(arrays).verdicts[0].sentence
    even = side([10] * 20, label_codes=[0] * 18 + [1] * 2, label_names=["yes", "no"])
    assert look(even).verdicts == ()


def test_a_label_that_train_lacks_is_a_warning_by_name() -> None:
    xray = look(
        {
            "train": side([10] * 4, label_codes=[0, 1, 0, 1], label_names=["yes", "no"]),
            "validation": side([10] * 3, label_codes=[0, 1, 2], label_names=["no", "Yes", "maybe"]),
        }
    )
    assert sentences(xray, "warning") == [
        "labels of the validation rows that no training row has: 'Yes', 'maybe'"
    ]
    lonely = {(one.side, one.missing_in): one.names for one in xray.lonely_labels}
    assert lonely[("train", "validation")] == ("yes",)


def test_errors_come_first() -> None:
    xray = look(side([10], supervised=[0], has_end=[False]))
    assert [verdict.severity for verdict in xray.verdicts] == ["error", "warning"]


def test_no_rows_at_all_are_an_error() -> None:
    xray = look(side([], supervised=[]))
    assert "no rows on the training side" in xray.errors[0].sentence


def test_everything_becomes_json() -> None:
    sides = two_sides(SENTENCES[:9], SENTENCES[:3])
    xray = look(
        sides, serving=ServingCheck(3, 3), dropped=[DroppedRows("too long", 2, "d.jsonl:4")]
    )
    document = json.loads(orjson.dumps(xray.as_json()))
    assert document["sides"]["train"]["rows"] == 9
    assert document["overlaps"][0]["exact"] == 3
    assert document["dropped"] == [{"reason": "too long", "rows": 2, "first": "d.jsonl:4"}]
    assert document["verdicts"][0]["severity"] == "warning"
    assert document["serving"]["same"] == 3


def conversation(answer: str) -> Conversation:
    turns = (Message("user", "which tree?"), Message("assistant", answer))
    return Conversation(messages=turns, row_id="d.jsonl:1", file="d.jsonl", line=1)


def test_training_and_serving_are_held_against_each_other(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "tiny"))
    part = DataPart(train="d.jsonl")
    samples = [conversation(answer) for answer in ("oak", "elm", "ash", "fir")]
    rows = [(sample, render(sample, tokenizer, part, "chat")) for sample in samples]
    check = check_serving(rows, tokenizer, part, "chat")
    assert check == ServingCheck(3, 3)
    assert check.summary == "same in 3 of 3 rows"


def test_the_first_difference_between_training_and_serving_is_told(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "tiny"))
    part = DataPart(train="d.jsonl")
    sample = conversation("oak")
    right = render(sample, tokenizer, part, "chat")
    tokens = right.tokens.copy()
    tokens[2] = tokens[3]
    wrong = Example(
        row_id="d.jsonl:1", file="d.jsonl", line=1, tokens=tokens, weights=right.weights
    )
    check = check_serving([(sample, wrong), (sample, right)], tokenizer, part, "chat")
    assert (check.rows, check.same) == (2, 1)
    trained, served = (tokenizer.decode([int(one)]) for one in (tokens[2], right.tokens[2]))
    assert check.difference == (
        f"d.jsonl:1: token 3 is {trained!r} ({tokens[2]}) in training and {served!r} "
        f"({right.tokens[2]}) in serving"
    )
    xray = look(side([10]), serving=check)
    assert "what is trained is not what a server sends" in xray.verdicts[0].sentence


def test_a_row_cut_within_its_prompt_is_no_difference(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "tiny"))
    part = DataPart(train="d.jsonl")
    sample = conversation("oak")
    whole = render(sample, tokenizer, part, "chat")
    cut = Example(
        row_id="d.jsonl:1", file="d.jsonl", line=1,
        tokens=whole.tokens[:5], weights=whole.weights[:5],
    )  # fmt: skip
    assert check_serving([(sample, cut)], tokenizer, part, "chat") == ServingCheck(1, 1)


@pytest.mark.parametrize("module", ["build", "page"])
def test_an_x_ray_imports_neither_torch_nor_transformers(module: str) -> None:
    code = (
        f"import sys; import tunesmith.data.xray.{module}; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
