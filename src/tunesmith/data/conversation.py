"""What a row of a data file becomes, whatever form it was written in.

A sample keeps the place it came from, so that every later fault can name it. A message's `weight`
is what its author asked for: 1 or 0, or None where the row did not say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: str
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Turns that go through the model's chat template."""

    messages: tuple[Message, ...]
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


Sample = Conversation | PromptCompletion | PlainText


def as_template_input(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    """Return the messages in the shape that chat templates read."""
    return [{"role": message.role, "content": message.content} for message in messages]


def role_sequence(messages: tuple[Message, ...]) -> str:
    """Return the roles in order, as `system,user,assistant`."""
    return ",".join(message.role for message in messages)


def texts_of(sample: Sample) -> list[str]:
    """Return every text of a sample."""
    match sample:
        case Conversation():
            return [message.content for message in sample.messages]
        case PromptCompletion():
            return [sample.prompt, sample.completion]
        case PlainText():
            return [sample.text]
        case _:
            assert_never(sample)
