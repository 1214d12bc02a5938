"""Reports about data files, the first part.

Left out because the product does not have it yet: the upload over HTTP (B002).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fakes.templates import make_stand_in
from tests.fakes.tiny import make_tokenizer
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
    whole,
    write,
    write_rows,
)
from tunesmith.core.errors import DataError
from tunesmith.core.events import EventLog
from tunesmith.data.account import dropped_lines
from tunesmith.data.conversation import Conversation
from tunesmith.data.pipeline import check_data, require_trainable
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.recipe.data import DataPart

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_b001_a_byte_order_mark_changes_no_row(tmp_path: Path, suffix: str) -> None:
    rows = [chat(user("weather?"), meta={"city": "Oslo"}), chat(user("count"), meta={"n": 3})]
    content = (lines(*rows) if suffix == "jsonl" else json.dumps(rows)).encode()
    marked = rows_in(write(tmp_path / f"marked.{suffix}", BOM + content))
    assert marked == rows_in(write(tmp_path / f"plain.{suffix}", content)) == rows
    assert [row["meta"] for row in marked] == [{"city": "Oslo"}, {"n": 3}]
    assert next(iter(marked[0])) == "messages"


def test_b001_a_byte_order_mark_is_no_fault(tmp_path: Path, capsys: Capsys) -> None:
    content = lines(pair("weather?", "rain", meta={"city": "Oslo"}), pair("count", "3"))
    outcome = check(capsys, write(tmp_path / "marked.jsonl", BOM + content.encode()))
    assert outcome.exit_code == 0
    assert "no faults" in outcome.said


def test_b002_the_first_column_of_a_marked_csv_has_its_name_at_every_door(
    tmp_path: Path, capsys: Capsys, chatml: TokenizerSource
) -> None:
    path = write(tmp_path / "lakes.csv", BOM + b'prompt,completion\n"name a lake","Bled"\n')
    (row,) = rows_in(path)
    assert list(row) == ["prompt", "completion"]
    (sample,) = read(path, task="chat").samples
    assert said_in(sample) == [("user", "name a lake"), ("assistant", "Bled")]
    outcome = check(capsys, path, "--json")
    assert outcome.exit_code == 0
    document = json.loads(outcome.said)
    assert (document["rows"], document["format"]) == (1, "prompt-completion")
    assert samples_in(lay(path, chatml)) == [sample]


def test_b004_one_value_of_another_type_in_an_array_is_named_by_row_and_field(
    tmp_path: Path, capsys: Capsys
) -> None:
    rows = [
        {"instruction": "Name a river", "input": "", "output": "Drava"},
        {"instruction": "Two plus two", "input": "", "output": 4},
    ]
    outcome = check(capsys, write(tmp_path / "rivers.json", json.dumps(rows)))
    assert outcome.exit_code == 2
    assert outcome.said.count("error:") == 1
    for words in ("row 2", "field output", "expected string", "got integer"):
        assert words in outcome.said


def test_b005_text_parts_are_the_text_and_a_picture_is_refused_by_its_place(
    tmp_path: Path, capsys: Capsys, chatml: TokenizerSource
) -> None:
    text = [{"type": "text", "text": "What is this?"}]
    picture = [{"type": "image_url", "image_url": {"url": "https://example.invalid/a.png"}}]
    rows = [pair(content, "A kettle") for content in ("What is this?", text, picture)]
    path = write_rows(tmp_path / "kettles.jsonl", *rows)
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    assert f"{path}:3, field messages[0].content[0]" in outcome.said
    assert "image_url" in outcome.said
    first, second = examples_of(path, chatml, on_bad_row="drop")
    assert first.tokens.tolist() == second.tokens.tolist()


CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "time",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
NUMBER = {"type": "number"}
SUM = {
    "type": "function",
    "function": {
        "name": "sum",
        "parameters": {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}},
    },
}


def test_b007_tools_stay_as_each_row_has_them(tmp_path: Path, calls_tools: TokenizerSource) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    write_rows(folder / "a.jsonl", pair("late?", "no", tools=[CLOCK]))
    write_rows(folder / "b.jsonl", pair("1+1?", "2", tools=[SUM]))
    both = write_rows(
        tmp_path / "both.jsonl",
        pair("late?", "no", tools=[CLOCK]),
        pair("1+1?", "2", tools=[SUM]),
    )
    for source in (both, both, folder):  # read, found in the cache, two files as one source
        told: list[str] = []
        data = lay(source, calls_tools, told=told)
        samples = samples_in(data)
        assert [tools_of(sample) for sample in samples] == [[CLOCK], [SUM]]
        store = data.train_side.file.store
        clock, sums = (whole(store.example(row), calls_tools) for row in range(2))
        assert '"zone"' in clock
        assert '"sum"' in sums
        assert "zone" not in sums
        for text in (clock, sums):
            assert "null" not in text
            assert "None" not in text
    lay(both, calls_tools, told=told)
    assert "cache hit" in told[-1]


def tools_of(sample: Any) -> list[Any]:
    assert isinstance(sample, Conversation)
    return [json.loads(tool) for tool in sample.tools]


def calling(arguments: Any, **content: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "clock", "arguments": arguments}}
    return chat(
        user("time in Lima?"),
        {"role": "assistant", **content, "tool_calls": [call]},
        {"role": "tool", "content": "07:10"},
        assistant("It is 07:10."),
    )


def test_b008_a_turn_that_only_calls_a_tool_needs_no_content(
    tmp_path: Path, calls_tools: TokenizerSource
) -> None:
    zone = {"zone": "Lima"}
    contents: list[dict[str, Any]] = [{"content": None}, {"content": ""}, {}]
    path = write_rows(tmp_path / "calls.jsonl", *(calling(zone, **one) for one in contents))
    examples = examples_of(path, calls_tools)
    assert len({example.tokens.tobytes() for example in examples}) == 1
    text = whole(examples[0], calls_tools)
    for words in ("time in Lima?", "07:10\n", "It is 07:10.", '"clock"', '{"zone": "Lima"}'):
        assert text.count(words) == 1, words


@pytest.mark.parametrize("template", ["qwen-2.5", "qwen-3", "deepseek"])
def test_b010_arguments_as_an_object_and_as_json_text_are_the_same(
    tmp_path: Path, template: str
) -> None:
    tokenizer = TokenizerSource(str(make_stand_in(tmp_path / template, template)))
    rows = [calling({"zone": "Lima"}, content=None), calling('{"zone": "Lima"}', content=None)]
    path = write_rows(tmp_path / "calls.jsonl", *rows)
    examples = examples_of(path, tokenizer)
    tokens = [example.tokens.tolist() for example in examples]
    half = len(examples) // 2  # a template may make one example a reply of a row
    assert tokens[:half] == tokens[half:]
    text = whole(examples[0], tokenizer)
    assert text.count('"zone"') == 1
    assert '\\"zone' not in text


def test_b010_arguments_that_are_no_json_are_refused_by_name(
    tmp_path: Path, capsys: Capsys
) -> None:
    rows = [calling({"zone": "Lima"}), calling('{"zone": "Lima"}'), calling("{zone: Lima")]
    path = write_rows(tmp_path / "calls.jsonl", *rows)
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    for words in (f"{path}:3", '"clock"', "arguments"):
        assert words in outcome.said


def test_b011_turns_that_do_not_alternate_are_found_before_any_template_sees_them(
    tmp_path: Path, capsys: Capsys, chatml: TokenizerSource
) -> None:
    asks_twice = chat(user("Hi"), user("Are you there?"), assistant("Yes."))
    path = write_rows(tmp_path / "chats.jsonl", pair("a", "b"), asks_twice, pair("c", "d"))
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    assert f"{path}:2" in outcome.said
    assert "user,user,assistant" in outcome.said
    dropped = lay(path, chatml, on_bad_row="drop")
    assert len(samples_in(dropped)) == 2
    assert dropped.dropped_reasons() == {"wrong turn order": 1}
    merged = samples_in(lay(path, chatml, turn_order="merge"))
    assert len(merged) == 3
    assert said_in(merged[1]) == [("user", "Hi\n\nAre you there?"), ("assistant", "Yes.")]


def test_b013_a_file_without_a_usable_row_stops_with_a_table_of_reasons(
    tmp_path: Path, capsys: Capsys
) -> None:
    row = chat({"role": "system", "content": "Be brief"}, user("Hello"))
    outcome = check(capsys, write_rows(tmp_path / "open.jsonl", row, row, row))
    assert outcome.exit_code == 2
    assert "0 of 3 rows usable" in outcome.said
    assert "no assistant reply: 3" in outcome.said
    prose = write_rows(tmp_path / "prose.jsonl", *[{"text": "Plain prose."}] * 3)
    outcome = check(capsys, prose, "--task", "chat")
    assert outcome.exit_code == 2
    assert "0 of 3 rows usable" in outcome.said
    assert 'wrong format "text" for chat objective: 3' in outcome.said


def test_b013_a_run_finds_it_before_it_needs_a_model(tmp_path: Path) -> None:
    prose = write_rows(tmp_path / "prose.jsonl", *[{"text": "Plain prose."}] * 3)
    with pytest.raises(DataError, match="0 of 3 rows usable"):
        check_data(DataPart(train=str(prose)), "chat", tell=[].append)


def test_b014_a_template_without_a_system_role_is_named_with_two_ways_out(tmp_path: Path) -> None:
    refusing = TokenizerSource(str(make_tokenizer(tmp_path / "refusing", "refuses-system")))
    system = {"role": "system", "content": "Answer in Croatian"}
    path = write_rows(tmp_path / "rows.jsonl", chat(system, user("Hi"), assistant("Bok")))
    with pytest.raises(DataError) as caught:
        lay(path, refusing)
    told = str(caught.value)
    for words in ("refusing takes no system message", f"{path}:1", "fold", "drop"):
        assert words in told
    (folded,) = examples_of(path, refusing, system_role="fold")
    assert "<|im_start|>user\nAnswer in Croatian" in whole(folded, refusing)
    assert trained(folded, refusing) == "Bok<|im_end|>"
    (left_out,) = examples_of(path, refusing, system_role="drop")
    assert "Croatian" not in whole(left_out, refusing)


def test_b016_a_line_longer_than_any_block_is_a_row(tmp_path: Path, capsys: Capsys) -> None:
    outcome = check(capsys, long_line(tmp_path))
    assert outcome.exit_code == 0
    assert "rows         3" in outcome.said
    assert "block" not in outcome.said


@pytest.mark.parametrize("overflow", ["error", "drop", "truncate"])
def test_b016_a_line_that_is_too_long_is_handled_as_the_recipe_says(
    tmp_path: Path, overflow: str
) -> None:
    tokenizer = tokenizer_with_words(tmp_path / "words")
    held_out = write_rows(tmp_path / "held-out.jsonl", pair("e", "f"))
    told: list[str] = []
    path = long_line(tmp_path, num_bytes=2**20)
    data = lay(path, tokenizer, told=told, overflow=overflow, validation=str(held_out))
    side = data.train_side.fitted
    assert (data.counts.rows_read, side.rows_too_long) == (3, 1)
    assert "block" not in "".join(told)
    if overflow == "error":
        with pytest.raises(DataError, match=r"data\.max_length = 1024") as caught:
            require_trainable(data, tokenizer)
        assert f"{path}:2" in str(caught.value)
    else:
        assert len(data.train) == 2
        (dropped,) = data.dropped()
        assert dropped.row_id == "long.jsonl:2"


MEASURED = """
import resource, sys
from tunesmith.core.hardware import peak_resident_bytes
from tunesmith.data.pipeline import lay_out
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.recipe.data import DataPart
part = DataPart(train=sys.argv[1], overflow="drop")
lay_out(part, "chat", TokenizerSource(sys.argv[2]), tell=[].append)
workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(max(peak_resident_bytes(), workers))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of another process is Linux' own")
def test_b016_a_long_line_takes_less_than_20_times_the_memory_of_its_file(tmp_path: Path) -> None:
    path = long_line(tmp_path)
    words = [str(path), tokenizer_with_words(tmp_path / "words").folder]
    printed = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], check=True, capture_output=True, text=True
    ).stdout
    assert int(printed) < 20 * path.stat().st_size


def long_line(folder: Path, num_bytes: int = 12 * 2**20) -> Path:
    text = "salt " * (num_bytes // 5)
    rows = (pair("a", "b"), pair(text, "ok"), pair("c", "d"))
    return write_rows(folder / "long.jsonl", *rows)


def test_b017_half_a_character_is_refused_and_a_whole_one_is_itself(
    tmp_path: Path, capsys: Capsys, chatml: TokenizerSource
) -> None:
    rows = [
        r'{"messages": [{"role": "user", "content": "ok \ud83d end"}, REPLY]}',
        r'{"messages": [{"role": "user", "content": "ok \ud83d\ude00 end"}, REPLY]}',
        '{"messages": [{"role": "user", "content": "ok \U0001f600 end"}, REPLY]}',
    ]
    content = "\n".join(rows).replace("REPLY", json.dumps(assistant("fine")))
    path = write(tmp_path / "halves.jsonl", content)
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    assert f"{path}:1" in outcome.said
    assert "surrogate" in outcome.said
    data = lay(path, chatml, on_bad_row="drop")
    store = data.train_side.file.store
    assert store.example(0).tokens.tolist() == store.example(1).tokens.tolist()
    (line,) = dropped_lines(data)
    assert orjson.loads(line)["row_id"] == "halves.jsonl:1"


@pytest.mark.parametrize(
    "row",
    [
        '{"messages": [{"role": "HALF", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '{"messages": [{"role": "user", "content": [{"type": "HALF"}]}]}',
        '{"HALF": 1, "HALF": 2}',
        '{"HALF": 1, "b": "c"}',
    ],
)
def test_b017_what_is_said_of_half_a_character_can_be_written(
    tmp_path: Path, capsys: Capsys, row: str
) -> None:
    path = write(tmp_path / "halves.jsonl", row.replace("HALF", r"\ud83d") + "\n")
    outcome = check(capsys, path)
    assert outcome.exit_code == 2
    assert r"\ud83d" in outcome.said


def test_b017_half_a_character_in_a_column_that_nobody_reads_stops_no_log(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    row = lines(pair("a", "b", HALF=1)).replace("HALF", r"\ud83d")
    data = lay(write(tmp_path / "halves.jsonl", row), chatml)
    with EventLog(tmp_path / "events.jsonl") as events:
        events.write("data", columns=data.counts.ignored_columns)
    assert orjson.loads((tmp_path / "events.jsonl").read_bytes())["columns"] == [[r"\ud83d", 1]]
