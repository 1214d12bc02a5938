"""Conversations: lists of messages, instructions with answers, prompts with completions, texts."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.data.conversation import Conversation, Message, PlainText, PromptCompletion, Sample
from tunesmith.data.fields import WRITTEN_TASKS, FieldReader
from tunesmith.data.forms.form import Column, Format, read_system
from tunesmith.data.json_text import type_name
from tunesmith.data.messages import NO_REPLY, as_messages, read_message_list, read_messages
from tunesmith.data.tool_calls import read_tools
from tunesmith.data.turns import check_turns

TOOLS = Column("tools", ("tools", "functions"), needed=False)
SYSTEM = Column("system", needed=False)


def read_conversation(reader: FieldReader) -> Conversation:
    """Read a list of messages with what stands beside it."""
    messages = read_messages(reader, "messages")
    return Conversation(messages=with_system(reader, messages), tools=read_tools(reader))


def with_system(reader: FieldReader, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return messages that begin with the system column's, unless they bring the same one."""
    system = read_system(reader)
    if not system or not messages or messages[0].role != "system":
        return system + messages
    if messages[0].content != system[0].content:
        reader.fault(
            reader.name("system"), "a system text, and another one in the messages",
            "one system text", fix="keep one of them", reason="two system messages",
        )  # fmt: skip
    return messages


def read_instruction(reader: FieldReader) -> str:
    """Return the text of an instruction with its input."""
    instruction = reader.text("instruction")
    given = reader.optional_text("input")
    prompt = "\n".join(part for part in (instruction, given) if part)
    if not prompt.strip() and not reader.faults:
        name = reader.name("instruction")
        reader.fault(name, "an empty text", "an instruction", reason="empty text")
    return prompt


def read_turns(reader: FieldReader, word: str, role: str) -> tuple[Message, ...]:
    """Read a column that holds either messages or the text of one."""
    value = reader.value(word)
    items = as_messages(value)
    if items is not None:
        return read_message_list(reader, reader.name(word), items)
    text = reader.text(word, may_be_empty=False)
    return (Message("user" if role == "user" else "assistant", text),)


def untrained(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a prompt's messages with weight 0 on earlier replies: only what follows is learned."""
    return tuple(
        replace(turn, weight=0.0) if turn.role == "assistant" else turn for turn in messages
    )


def _read_alpaca(reader: FieldReader) -> Sample:
    prompt = read_instruction(reader)
    answer = reader.answer("output")
    if reader.options.task == "completion":
        # Nothing but a line break would tell the instruction from its answer.
        return PromptCompletion(prompt=prompt + "\n", completion=answer)
    turns = (Message("user", prompt), Message("assistant", answer))
    return Conversation(messages=read_system(reader) + read_history(reader) + turns)


def read_history(reader: FieldReader) -> tuple[Message, ...]:
    """Read earlier turns given as pairs of question and answer."""
    turns: list[Message] = []
    for index, pair in enumerate(reader.optional_list("history")):
        field = f"{reader.name('history')}[{index}]"
        match pair:
            case [str(question), str(answer)]:
                turns += [
                    Message("user", reader.check_text(f"{field}[0]", question)),
                    Message("assistant", reader.check_text(f"{field}[1]", answer)),
                ]
            case _:
                is_list = isinstance(pair, list)
                what = "a list of something else" if is_list else type_name(pair, article=True)
                found = f"got {what}"
                reader.fault(field, found, "a list of two texts", reason="wrong type")
    return tuple(turns)


def _read_prompt_completion(reader: FieldReader) -> Sample:
    if reader.options.task == "completion":
        return PromptCompletion(
            prompt=reader.text("prompt", may_be_empty=False),
            completion=reader.answer("completion"),
        )
    prompt = untrained(read_turns(reader, "prompt", "user"))
    has_none = reader.lacks_answer("completion")
    turns = prompt + ((NO_REPLY,) if has_none else read_turns(reader, "completion", "assistant"))
    if not reader.faults:
        turns = check_turns(reader, reader.name("completion"), turns)
    return Conversation(messages=with_system(reader, turns), tools=read_tools(reader))


def _read_text(reader: FieldReader) -> Sample:
    text = reader.text("text", may_be_empty=False)
    # A text that is asked is to be gone on with.
    return (
        PromptCompletion(prompt=text, completion="")
        if reader.options.asked
        else PlainText(text=text)
    )


MESSAGES = Format(
    "messages", (Column("messages"), SYSTEM, TOOLS, Column("parallel_tool_calls", needed=False)),
    WRITTEN_TASKS, read_conversation,
)  # fmt: skip
SHAREGPT = Format(
    "sharegpt", (Column("messages", ("conversations",)), SYSTEM, TOOLS), WRITTEN_TASKS,
    read_conversation,
)  # fmt: skip
ALPACA = Format(
    "alpaca",
    (
        Column("instruction"),
        Column("output", answer=True),
        Column("input", needed=False),
        SYSTEM,
        Column("history", needed=False),
    ),
    (*WRITTEN_TASKS, "completion"),
    _read_alpaca,
)
PROMPT_COMPLETION = Format(
    "prompt-completion",
    (Column("prompt"), Column("completion", answer=True), SYSTEM, TOOLS),
    (*WRITTEN_TASKS, "completion"),
    _read_prompt_completion,
)
TEXT = Format("text", (Column("text"),), ("completion",), _read_text)
