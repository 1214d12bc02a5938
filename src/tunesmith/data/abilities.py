"""What a chat template can do, found by asking it: each is a small rendering that shows it or not.

A template is a program, and nothing but running it says what it does with a system message or a
tool call.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from tunesmith.data.conversation import Message
from tunesmith.data.tokenizer import TemplateRefusalError, TextEncoder

_WORD = "tunesmith"  # what a probe says, to be found again in what is printed
_CALLED = "called"
_USER = {"role": "user", "content": "a"}
_REPLY = {"role": "assistant", "content": "b"}
_ARGUMENTS = {"c": "d"}
_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": _WORD,
            "description": "e",
            "parameters": {"type": "object", "properties": {"c": {"type": "string"}}},
        },
    }
]


def settle_system(
    messages: tuple[Message, ...],
    encoder: TextEncoder,
    system_role: Literal["keep", "fold", "drop"],
) -> tuple[Message, ...]:
    """Fold or drop a system message that the template does not take, as the recipe says."""
    if system_role == "keep" or not messages or messages[0].role != "system":
        return messages
    if takes_system(encoder):
        return messages
    system, *others = messages
    if system_role == "drop":
        return tuple(others)
    for at, message in enumerate(others):
        if message.role == "user":
            others[at] = replace(message, content=f"{system.content}\n\n{message.content}")
            return tuple(others)
    return messages  # there is no user message to fold it into


@lru_cache(maxsize=8)
def takes_system(encoder: TextEncoder) -> bool:
    """Say whether the template accepts a system message and prints it."""
    system = {"role": "system", "content": _WORD}
    text = _try(encoder, [system, _USER, _REPLY])
    if text is None:
        return _try(encoder, [_USER, _REPLY]) is None  # it refuses more than the system message
    return _WORD in text


@lru_cache(maxsize=8)
def prints_tools(encoder: TextEncoder) -> bool:
    """Say whether the template prints the tools that a conversation offers."""
    text = _try(encoder, [_USER, _REPLY], _TOOLS)
    return text is None or _WORD in text


@lru_cache(maxsize=8)
def prints_calls(encoder: TextEncoder, *, with_tools: bool) -> bool:
    """Say whether the template prints the tool calls of the assistant."""
    tools = _TOOLS if with_tools else None
    texts = [_try(encoder, _call_probe(as_text=as_text), tools) for as_text in (False, True)]
    accepted = [text for text in texts if text is not None]
    return not accepted or any(_CALLED in text for text in accepted)


@lru_cache(maxsize=8)
def arguments_as_text(encoder: TextEncoder, *, with_tools: bool) -> bool:
    """Say whether the template wants the arguments of a call as JSON text and not as an object."""
    tools = _TOOLS if with_tools else None
    as_object = _try(encoder, _call_probe(as_text=False), tools)
    as_text = _try(encoder, _call_probe(as_text=True), tools)
    # An object that is printed as it is comes out in the notation of Python.
    is_refused = as_object is None or str(_ARGUMENTS) in as_object
    return is_refused and as_text is not None


def _call_probe(*, as_text: bool) -> list[dict[str, Any]]:
    arguments = json.dumps(_ARGUMENTS) if as_text else _ARGUMENTS
    function = {"name": _CALLED, "arguments": arguments}
    # Some templates want an id of exactly nine letters.
    call = {"type": "function", "id": "abcdefghi", "function": function}
    return [_USER, {"role": "assistant", "content": "", "tool_calls": [call]}]


def _try(
    encoder: TextEncoder,
    messages: Sequence[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
) -> str | None:
    try:
        return encoder.apply_template(list(messages), tools=tools, add_generation_prompt=False)
    except TemplateRefusalError:
        return None
