"""From a row's columns to a sample: one table of forms, found by the columns or named.

A row of any form gives a sample or all the faults that keep it from being one. Nothing is coerced:
a number where a text belongs is a fault, because the writer of the file meant one or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tunesmith.data.conversation import Conversation, Message, PlainText, PromptCompletion, Sample
from tunesmith.data.fields import FieldReader
from tunesmith.data.messages import read_messages
from tunesmith.data.rows import Row, RowFault, place_of

FormatName = Literal["messages", "sharegpt", "alpaca", "prompt-completion", "text"]
TaskName = Literal["chat", "completion"]
Columns = Mapping[str, str]  # a form's own name of a column -> the file's name


@dataclass(frozen=True, slots=True)
class Format:
    """A form of row: the columns that it must have, those that it may have, and how it is read."""

    name: FormatName
    needs: tuple[str, ...]
    may: tuple[str, ...]
    tasks: tuple[TaskName, ...]
    read: Callable[[FieldReader, TaskName], Sample]


def find_format(keys: Collection[str], columns: Columns | None = None) -> FormatName | None:
    """Return the form whose columns a row has, or None."""
    names = columns or {}
    known = set(keys) - set(names.values())
    known |= {column for column, name in names.items() if name in keys}
    if "chosen" in known and "rejected" in known:
        return None  # preference pairs often bring `conversations` too, and are not sharegpt
    for form in FORMATS.values():
        if all(column in known for column in form.needs):
            return form.name
    return None


def to_sample(
    row: Row, format: FormatName, task: TaskName, columns: Columns | None = None
) -> Sample | list[RowFault]:
    """Read one row in the given form."""
    reader = FieldReader(place_of(row), row.values, columns or {})
    sample = FORMATS[format].read(reader, task)
    if reader.faults:
        return reader.faults
    return replace(sample, row_id=row.row_id, file=row.file, line=row.line)


def columns_of(format: FormatName, columns: Columns) -> Columns:
    """Return the mapping in the form's words: the recipe calls any list of messages `messages`."""
    if format == "sharegpt" and "messages" in columns:
        return {**columns, "conversations": columns["messages"]}
    return columns


def used_columns(format: FormatName, columns: Columns) -> set[str]:
    """Return the file's names of the columns that the form reads."""
    form = FORMATS[format]
    return {columns.get(column, column) for column in form.needs + form.may}


def _read_messages(reader: FieldReader, task: TaskName) -> Sample:
    del task
    return Conversation(messages=_read_system(reader) + read_messages(reader, "messages"))


def _read_sharegpt(reader: FieldReader, task: TaskName) -> Sample:
    del task
    return Conversation(messages=_read_system(reader) + read_messages(reader, "conversations"))


def _read_alpaca(reader: FieldReader, task: TaskName) -> Sample:
    instruction = reader.text("instruction")
    given = reader.optional_text("input")
    prompt = "\n".join(part for part in (instruction, given) if part)
    answer = reader.text("output", may_be_empty=False)
    if not prompt.strip() and not reader.faults:
        reader.fault("instruction", "an empty text", "an instruction", reason="empty text")
    if task == "completion":
        # Nothing but a line break would tell the instruction from its answer.
        return PromptCompletion(prompt=prompt + "\n", completion=answer)
    earlier = _read_history(reader)
    turns = (Message("user", prompt), Message("assistant", answer))
    return Conversation(messages=_read_system(reader) + earlier + turns)


def _read_history(reader: FieldReader) -> tuple[Message, ...]:
    pairs = reader.optional_list("history")
    turns: list[Message] = []
    for index, pair in enumerate(pairs):
        match pair:
            case [str(question), str(answer)]:
                turns += [Message("user", question), Message("assistant", answer)]
            case _:
                reader.fault(
                    f"history[{index}]", "another value", "a list of two texts",
                    reason="wrong type",
                )  # fmt: skip
    return tuple(turns)


def _read_prompt_completion(reader: FieldReader, task: TaskName) -> Sample:
    prompt = reader.text("prompt", may_be_empty=False)
    completion = reader.text("completion", may_be_empty=False)
    if task == "completion":
        return PromptCompletion(prompt=prompt, completion=completion)
    turns = (Message("user", prompt), Message("assistant", completion))
    return Conversation(messages=_read_system(reader) + turns)


def _read_text(reader: FieldReader, task: TaskName) -> Sample:
    del task
    return PlainText(text=reader.text("text", may_be_empty=False))


def _read_system(reader: FieldReader) -> tuple[Message, ...]:
    system = reader.optional_text("system")
    return (Message("system", system),) if system else ()


# In the order in which they are tried: the richer form first.
FORMATS: dict[FormatName, Format] = {
    form.name: form
    for form in (
        Format("messages", ("messages",), ("system", "tools"), ("chat",), _read_messages),
        Format("sharegpt", ("conversations",), ("system", "tools"), ("chat",), _read_sharegpt),
        Format(
            "alpaca",
            ("instruction", "output"),
            ("input", "system", "history"),
            ("chat", "completion"),
            _read_alpaca,
        ),
        Format(
            "prompt-completion",
            ("prompt", "completion"),
            ("system",),
            ("chat", "completion"),
            _read_prompt_completion,
        ),
        Format("text", ("text",), (), ("completion",), _read_text),
    )
}
