"""Reports about data files, the second part.

Left out because the product does not have it yet: the upload over HTTP (B022), and heads that
classify texts (B026) or words (B028): here labels and tags become texts that are answered.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.field.doors import (
    Capsys,
    assistant,
    chat,
    check,
    examples_of,
    lay,
    lines,
    pair,
    read,
    rows_in,
    said_in,
    samples_in,
    tokenizer_with_words,
    trained,
    user,
    write,
    write_rows,
)
from tunesmith.data.account import data_warnings
from tunesmith.data.examine import examine
from tunesmith.data.prepared.tokenizer_source import TokenizerSource


def test_b019_a_nul_byte_never_changes_the_number_of_rows(tmp_path: Path, capsys: Capsys) -> None:
    table = write(tmp_path / "nul.csv", b'text,label\n"a\x00b",x\n"c",y\n')
    outcome = check(capsys, table)
    assert outcome.exit_code == 2
    assert f"{table}:2" in outcome.said
    assert "NUL" in outcome.said
    dropped = read(table, on_bad_row="drop")
    assert (dropped.rows_read, len(dropped.samples)) == (2, 1)
    raw = b'{"prompt":"a\x00b","completion":"c"}\n{"prompt":"d","completion":"e"}\n'
    outcome = check(capsys, write(tmp_path / "nul.jsonl", raw))
    assert outcome.exit_code == 2
    assert "nul.jsonl:1" in outcome.said
    assert "NUL" in outcome.said
    assert ":2" not in outcome.said


def test_b019_an_escaped_nul_is_kept_and_counted(tmp_path: Path, capsys: Capsys) -> None:
    path = write_rows(tmp_path / "nul.jsonl", pair("a\0b", "c"), pair("d", "e"))
    outcome = check(capsys, path)
    assert outcome.exit_code == 0
    assert "a NUL character in a text, kept as it is (1 row" in outcome.said
    assert said_in(read(path).samples[0])[0] == ("user", "a\0b")


def test_b020_windows_line_ends_belong_to_no_text(tmp_path: Path, chatml: TokenizerSource) -> None:
    content = lines(pair("one\rtwo", "three"), pair("four", "five"))
    unix = write(tmp_path / "unix.jsonl", content)
    windows = write(tmp_path / "windows.jsonl", content.replace("\n", "\r\n"))
    assert rows_in(windows) == rows_in(unix)
    assert said_in(read(windows).samples[0])[0] == ("user", "one\rtwo")
    tokens = [
        [example.tokens.tolist() for example in examples_of(path, chatml)]
        for path in (unix, windows)
    ]
    assert tokens[0] == tokens[1]
    text = write(tmp_path / "colours.txt", "red\r\nblue\r\n")
    assert rows_in(text) == [{"text": "red"}, {"text": "blue"}]


def test_b022_every_line_that_is_no_json_is_named_with_its_column_in_one_answer(
    tmp_path: Path, capsys: Capsys
) -> None:
    good = lines(pair("a", "b"))
    comma = lines(pair("Team?", "Hajduk")).replace("}]", "},]")
    quotes = lines(pair("say HI now", "hi")).replace("HI", '"hi"')
    path = write(tmp_path / "broken.jsonl", good + comma + quotes)
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    column = comma.index(",]") + 1
    assert f"line 2 is not JSON: trailing comma at column {column}" in outcome.said
    column = quotes.index('"hi"') + 1
    assert "line 3 is not JSON: an unescaped quote" in outcome.said
    assert f"at column {column}" in outcome.said
    assert f"{path}:2" in outcome.said
    assert f"{path}:3" in outcome.said
    assert path.read_text() == good + comma + quotes
    assert len(read(path, on_bad_row="drop").samples) == 1


def test_b023_arrays_double_encoding_and_two_objects_on_a_line_are_told_apart(
    tmp_path: Path, capsys: Capsys
) -> None:
    rows = [pair("a", "b"), pair("c", "d")]
    array = write(tmp_path / "array.jsonl", json.dumps(rows, indent=1))
    assert check(capsys, array).exit_code == 0
    assert len(read(array).samples) == 2
    twice = check(capsys, write_rows(tmp_path / "twice.jsonl", *map(json.dumps, rows)))
    assert twice.exit_code == 2
    assert "line 1 is a string, expected an object" in twice.said
    beside = check(capsys, write(tmp_path / "beside.jsonl", "".join(map(json.dumps, rows))))
    assert beside.exit_code == 2
    assert "line 1" in beside.said
    assert "more than one value" in beside.said


def test_b025_a_column_of_two_types_is_counted_or_nobodys_business(
    tmp_path: Path, capsys: Capsys
) -> None:
    rows = [pair(f"q{n}", "a", tools="[]" if n <= 1100 else []) for n in range(1, 1201)]
    rows[0]["id"], rows[899]["id"] = 7, "K9x"
    path = write_rows(tmp_path / "mixed.jsonl", *rows)
    outcome = check(capsys, path)
    assert outcome.exit_code == 0
    told = "tools: string in 1,100 rows, list in 100 rows, first difference at row 1,101"
    assert told in outcome.said
    assert "id: " not in outcome.said
    assert len(read(path).samples) == 1200


def test_b026_a_label_as_a_number_and_as_text_is_one_class(
    tmp_path: Path, capsys: Capsys, chatml: TokenizerSource
) -> None:
    path = write_rows(
        tmp_path / "labels.jsonl",
        {"text": "late parcel", "label": "1"},
        {"text": "broken cup", "label": 1},
        {"text": "thanks", "label": "praise"},
    )
    outcome = check(capsys, path)
    assert outcome.exit_code == 0
    assert 'first difference at row 2, and 1 and "1" are one class' in outcome.said
    answers = [trained(example, chatml) for example in examples_of(path, chatml)]
    assert answers == ["1<|im_end|>", "1<|im_end|>", "praise<|im_end|>"]
    assert lay(path, chatml).train_side.file.store.labels == ("1", "praise")


def test_b028_tags_stay_with_their_words_and_are_counted_against_them(
    tmp_path: Path, capsys: Capsys
) -> None:
    words = ["Zagreb", "is", "in", "Croatia", "."]
    rows = [
        {"tokens": words, "tags": [1, 0, 0, 1, 0]},
        {"tokens": words, "tags": [1, 0, 0, 1]},
        {"tokens": [*words[:2], "\u200b", *words[3:]], "tags": [1, 0, 0, 1, 0]},
    ]
    path = write_rows(tmp_path / "tags.jsonl", *rows)
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    assert f"{path}:2" in outcome.said
    assert "5 tokens and 4 tags" in outcome.said
    samples = read(path, on_bad_row="drop").samples
    assert [said_in(sample)[-1][1] for sample in samples] == ["1: Zagreb\n1: Croatia"] * 2


TEN_ROWS = [pair("q", "same" if n in (2, 5, 6, 9) else f"a{n}") for n in range(1, 11)]


def test_b029_equal_rows_are_on_one_side(
    tmp_path: Path, capsys: Capsys, chatml: TokenizerSource
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", *TEN_ROWS)
    assert "duplicates   3" in check(capsys, path).said
    data = lay(path, chatml, validation="20%")
    assert "3 duplicate rows are used once" in data_warnings(data, "")
    trained_on = {example.tokens.tobytes() for example in data.train}
    measured = {example.tokens.tobytes() for example in data.validation}
    assert trained_on
    assert measured
    assert not trained_on & measured


def test_b029_a_validation_file_that_repeats_a_training_row_is_a_warning(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", *TEN_ROWS)
    held_out = write_rows(tmp_path / "held-out.jsonl", TEN_ROWS[0], pair("x", "y"))
    data = lay(path, chatml, validation=str(held_out))
    assert "1 held-out rows are also trained" in data_warnings(data, "")
    verdicts = [verdict.sentence for verdict in examine(data, chatml).verdicts]
    assert "1 of 2 validation rows are training rows too" in verdicts


def test_b031_rows_are_made_ready_anew_where_file_or_tokenizer_changed(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", pair("Colour?", "teal."))
    other = tokenizer_with_words(tmp_path / "words")
    told: list[str] = []

    def answer(tokenizer: TokenizerSource) -> str:
        (example,) = examples_of(path, tokenizer, told=told)
        return trained(example, tokenizer)

    assert answer(chatml) == "teal.<|im_end|>"
    before = path.stat()
    path.write_text(path.read_text().replace("teal.", "ochre"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert answer(chatml) == "ochre<|im_end|>"
    assert answer(other) == "ochre<|im_end|>"
    assert answer(other) == "ochre<|im_end|>"
    assert [line.split(": ", 1)[1] for line in told] == [
        "cache miss: not prepared before",
        "cache miss: file content changed",
        "cache miss: tokenizer changed",
        "cache hit, the rows are ready",
    ]


def test_b032_an_empty_conversation_costs_itself_only(
    tmp_path: Path, capsys: Capsys, chatml: TokenizerSource
) -> None:
    path = write_rows(
        tmp_path / "rows.jsonl",
        pair("a", "b"),
        {"messages": []},
        {**chat(user("a")), "chosen_messages": [assistant("b")], "rejected_messages": []},
    )
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    for words in (f"{path}:2", "empty messages", f"{path}:3", "empty rejected"):
        assert words in outcome.said
    data = lay(path, chatml, on_bad_row="drop")
    assert len(samples_in(data)) == 1
    reasons = {row.row_id: row.reason for row in data.dropped()}
    assert "empty messages" in reasons["rows.jsonl:2"]
    assert {"empty messages", "empty rejected"} <= data.dropped_reasons().keys()


def test_b032_an_empty_rejected_answer_among_preferences_costs_itself_only(
    tmp_path: Path, capsys: Capsys
) -> None:
    good = {
        **chat(user("a")),
        "chosen_messages": [assistant("b")],
        "rejected_messages": [assistant("c")],
    }
    rows = [good, {**good, "rejected_messages": []}]
    path = write_rows(tmp_path / "rows.jsonl", *rows)
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    assert f"{path}:2" in outcome.said
    assert "empty rejected" in outcome.said
    assert len(read(path, on_bad_row="drop").samples) == 1
