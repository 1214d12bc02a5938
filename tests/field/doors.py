"""What the tests of reports look through: the command, the run's own reading, and rows to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.tiny import make_tokenizer
from tunesmith.cli.main import main
from tunesmith.data.conversation import Conversation, Message, Sample
from tunesmith.data.example import Example
from tunesmith.data.formats import TaskName
from tunesmith.data.pipeline import RunData, lay_out
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.rows import Row, read_rows
from tunesmith.data.validate import CheckedData, check_file
from tunesmith.recipe.data import DataPart

Capsys = pytest.CaptureFixture[str]


class Outcome(NamedTuple):
    """How a command ended, and what it said."""

    exit_code: int
    said: str


def check(capsys: Capsys, path: Path, *options: str) -> Outcome:
    """Carry out `tunesmith data check`."""
    return command(capsys, "data", "check", str(path), *options)


def command(capsys: Capsys, *words: str) -> Outcome:
    """Carry out a command."""
    exit_code = main(words)
    printed = capsys.readouterr()
    return Outcome(exit_code, printed.out + printed.err)


def read(path: Path, *, task: TaskName | None = None, **settings: Any) -> CheckedData:
    """Read and check a file as a library call."""
    return check_file(path, part_of(path, settings), task)


def lay(
    path: Path,
    tokenizer: TokenizerSource,
    *,
    task: TaskName = "chat",
    told: list[str] | None = None,
    **settings: Any,
) -> RunData:
    """Do what a run does with its rows before any weight is loaded."""
    lines: list[str] = [] if told is None else told
    return lay_out(part_of(path, settings), task, tokenizer, tell=lines.append)


def part_of(path: Path, settings: dict[str, Any]) -> DataPart:
    """Return the recipe's part that names the file."""
    return DataPart.model_validate({"train": str(path), **settings})


def examples_of(
    path: Path, tokenizer: TokenizerSource, *, task: TaskName = "chat", **settings: Any
) -> list[Example]:
    """Return the examples of all rows of a file in order, on whichever side they are."""
    store = lay(path, tokenizer, task=task, **settings).train_side.file.store
    return [store.example(index) for index in range(len(store.examples))]


def rows_in(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file as they are read, all of them good."""
    rows = list(read_rows(path))
    return [row.values for row in rows if isinstance(row, Row)]


def samples_in(data: RunData) -> list[Sample]:
    """Return the samples of all rows of the training file, as they were kept on disk."""
    store = data.train_side.file.store
    samples = [store.sample(row) for row in range(len(store.rows))]
    return [sample for sample in samples if sample is not None]


def whole(example: Example, tokenizer: TokenizerSource) -> str:
    """Return the text of all tokens."""
    return tokenizer.tokenizer.decode(example.tokens.tolist())


def trained(example: Example, tokenizer: TokenizerSource) -> str:
    """Return the text of the tokens that are trained."""
    return tokenizer.tokenizer.decode(example.tokens[example.weights > 0].tolist())


def said_in(sample: Sample) -> list[tuple[str, str]]:
    """Return who says what in a conversation."""
    return [(message.role, message.content) for message in messages_of(sample)]


def messages_of(sample: Sample) -> tuple[Message, ...]:
    """Return the turns of a conversation."""
    assert isinstance(sample, Conversation), sample
    return sample.messages


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def chat(*messages: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """Return a row of messages."""
    return {"messages": list(messages), **columns}


def pair(question: Any, answer: Any, **columns: Any) -> dict[str, Any]:
    """Return a row of one question and its answer."""
    return chat(user(question), assistant(answer), **columns)


def write_rows(path: Path, *rows: Any) -> Path:
    """Write rows as JSON Lines."""
    return write(path, lines(*rows))


def lines(*rows: Any) -> str:
    """Return rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path: Path, content: str | bytes) -> Path:
    """Write a file's bytes as they are given: no line end is changed."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def tokenizer_with_words(folder: Path) -> TokenizerSource:
    """Make a tokenizer that has a token for a usual word, as real ones have."""
    path = make_tokenizer(folder) / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    for left, right in [("s", "a"), ("l", "t"), ("sa", "lt"), ("\u0120", "salt")]:
        merges.append([left, right])
        vocabulary[left + right] = 1000 + len(merges)
    path.write_text(json.dumps(content))
    return TokenizerSource(str(folder))
