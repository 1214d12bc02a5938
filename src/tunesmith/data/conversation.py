"""What a row of a data file becomes, whatever form it was written in.

A sample keeps the place it came from, so that every later fault can name it. A message's `weight`
is what its author asked for: 1 or 0, or None where the row did not say.
"""

from __future__ import annotations

import json  # orjson makes a rounded number of an integer over 64 bits
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant makes. `arguments` is the JSON text of an object."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `thinking` is the assistant's reasoning, kept apart from what it says.

    `name` is the speaker's or the tool's; `tool_call_id` says which call a tool's result answers.
    """

    role: Role
    content: str
    weight: float | None = None
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What the author of a labelled row said of its texts, apart from how the model is asked.

    kind      texts                   labels                          starts
    classes   the text, or the pair   its class, or its several ones  -
    tags      the tokens              one for each token, as IOB2     where each is in `whole`
    answers   context, question       the answers, all of them right  where each is in the context,
                                                                      in characters, or -1
    choices   the candidates          of each: best, right or wrong   -
    """

    kind: Literal["classes", "tags", "answers", "choices"]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    starts: tuple[int, ...] = ()
    whole: str = ""
    """The text that tokens are words of; empty, and no starts, where a row has its tokens only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Turns that go through the model's chat template.

    `tools` are the JSON texts of the tools on offer, each as its author wrote it; `labelled` is
    what a labelled row was made from.
    """

    messages: tuple[Message, ...]
    tools: tuple[str, ...] = ()
    labelled: Labelled | None = None
    row_id: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A prompt with a better and a worse answer; `rejected` is None for a rated single answer.

    Of a rated answer (thumbs up or down) only one of `chosen` and `rejected` is there.
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...] | None
    rejected: tuple[Message, ...] | None
    tools: tuple[str, ...] = ()
    row_id: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCompletion:
    """A text and how it goes on, joined as they are and without a template."""

    prompt: str
    completion: str
    row_id: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainText:
    """One document, trained from its first token to its end."""

    text: str
    row_id: str = ""
    file: str = ""
    line: int = 0


Sample = Conversation | Preference | PromptCompletion | PlainText


def as_template_input(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages in the shape that chat templates read."""
    return [_message_input(message) for message in messages]


def tools_as_template_input(tools: Sequence[str]) -> list[dict[str, Any]] | None:
    """Return the tools in the shape that chat templates read, or None where there are none."""
    return [json.loads(tool) for tool in tools] or None


def _message_input(message: Message) -> dict[str, Any]:
    values: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        values["reasoning_content"] = message.thinking
    if message.tool_calls:
        values["tool_calls"] = [_call_input(call) for call in message.tool_calls]
    if message.name:
        values["name"] = message.name
    if message.tool_call_id:
        values["tool_call_id"] = message.tool_call_id
    return values


def _call_input(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.loads(call.arguments)}
    named = {"id": call.id} if call.id else {}
    return {"type": "function", **named, "function": function}


def label_of(sample: Sample) -> str | None:
    """Return the class of a row that has one; several are one of their own, joined."""
    labelled = sample.labelled if isinstance(sample, Conversation) else None
    if labelled is None or labelled.kind != "classes":
        return None
    return ", ".join(labelled.labels)


def labelled_of(sample: Sample) -> Labelled:
    """Return what a labelled row was made from; forms that are not labelled never come here."""
    assert isinstance(sample, Conversation), "only labelled forms serve such a task"
    assert sample.labelled is not None, "only labelled forms serve such a task"
    return sample.labelled


def role_sequence(messages: Sequence[Message]) -> str:
    """Return the roles in order, as `system,user,assistant`."""
    return ",".join(message.role for message in messages)


def texts_of(sample: Sample) -> list[str]:
    """Return every text of a sample."""
    match sample:
        case Conversation():
            return _texts(sample.messages)
        case Preference():
            answers = (*(sample.chosen or ()), *(sample.rejected or ()))
            return _texts((*sample.prompt, *answers))
        case PromptCompletion():
            return [sample.prompt, sample.completion]
        case PlainText():
            return [sample.text]
        case _:
            assert_never(sample)


def _texts(messages: Sequence[Message]) -> list[str]:
    texts: list[str] = []
    for message in messages:
        texts += [message.content, *([message.thinking] if message.thinking else [])]
        texts += [call.arguments for call in message.tool_calls]
    return texts
