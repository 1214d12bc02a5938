"""What of a conversation a chat template leaves out, so that nothing is lost in silence.

What is found in the template's text is printed. Where a text is not found as it is (a template may
escape it, or cut a part that it prints elsewhere), the conversation is rendered again with another
text in that place: only if that changes nothing is it certain that the template leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from tunesmith.data.abilities import prints_calls, prints_tools, takes_system
from tunesmith.data.conversation import Message, ToolCall
from tunesmith.data.template import ChatText, Reply, render_text
from tunesmith.data.tokenizer import TemplateRefusalError, TextEncoder

_THINKING_ENDS = "</think>"


@dataclass(frozen=True, slots=True)
class Unprinted:
    """What is left out, as a sentence without its subject, and what to do."""

    what: str
    fix: str
    field: str


@dataclass(frozen=True, slots=True)
class Given:
    """A conversation and its text; `learned` are the replies that carry weight."""

    messages: tuple[Message, ...]
    tools: tuple[str, ...]
    learned: frozenset[int]
    chat: ChatText
    encoder: TextEncoder


def find_unprinted(given: Given) -> Unprinted | None:
    """Return the first thing that the template leaves out, or None.

    Earlier replies that are not learned are not looked at: a template may shorten them, and serves
    them so.
    """
    replies = {reply.message: reply for reply in given.chat.replies}
    for place, message in enumerate(given.messages):
        if message.role == "assistant" and place not in given.learned:
            continue
        if found := _unprinted_message(given, place, replies.get(place)):
            return found
    return _unprinted_tool(given) if given.tools else None


def loses_thinking(given: Given) -> bool:
    """Say whether the reasoning of a reply that is learned is printed nowhere in it."""
    replies = {reply.message: reply for reply in given.chat.replies}
    return any(
        bool(thinking) and not _is_in(thinking, given.chat.text, replies.get(place))
        for place in given.learned
        if (thinking := _thinking(given.messages[place]))
    )


def _thinking(message: Message) -> str:
    """Return the reasoning, also where it was written into the content."""
    if message.thinking or _THINKING_ENDS not in message.content:
        return message.thinking
    return message.content.split(_THINKING_ENDS)[0].removeprefix("<think>")


def _unprinted_message(given: Given, place: int, reply: Reply | None) -> Unprinted | None:
    message, text = given.messages[place], given.chat.text
    if message.content and not _is_in(message.content, text, reply):
        # What is printed of it may happen to be one of two texts, but not both.
        others = (replace(message, content=other) for other in ("a", "b"))
        if message.content.strip() and not any(_matters(given, place, one) for one in others):
            return _lost_message(given, place)
    for number, call in enumerate(message.tool_calls):
        # The name alone may stand in the list of tools.
        can_print = prints_calls(given.encoder, with_tools=bool(given.tools))
        if can_print and _is_in(call.name, text, reply):
            continue
        if not _matters(given, place, _with_other_call(message, number)):
            return Unprinted(
                f"does not print tool calls (here of {call.name})",
                "choose a model whose template knows tools, or write the calls into the content",
                f"messages[{place}].tool_calls",
            )
    return None


def _with_other_call(message: Message, number: int) -> Message:
    calls = list(message.tool_calls)
    calls[number] = ToolCall(f"{calls[number].name}_", calls[number].arguments, calls[number].id)
    return replace(message, tool_calls=tuple(calls))


def _lost_message(given: Given, place: int) -> Unprinted:
    message = given.messages[place]
    if message.role == "system" and not takes_system(given.encoder):
        return Unprinted(
            "does not print the system message",
            "set data.system_role: fold to put its text at the start of the first user message, "
            "or data.system_role: drop to leave it out",
            f"messages[{place}]",
        )
    return Unprinted(
        f"does not print message {place} (role {message.role})",
        "choose a model whose template knows such a message, or remove it from the row",
        f"messages[{place}]",
    )


def _unprinted_tool(given: Given) -> Unprinted | None:
    can_print = prints_tools(given.encoder)
    for number, tool in enumerate(given.tools):
        name, renamed = _rename(tool)
        if can_print and name in given.chat.text:
            continue
        others = [*given.tools[:number], renamed, *given.tools[number + 1 :]]
        if _text(given, given.messages, others) == given.chat.text:
            return Unprinted(
                f"does not print the tools on offer (here {name})",
                "choose a model whose template knows tools, or remove them from the row",
                f"tools[{number}]",
            )
    return None


def _rename(tool: str) -> tuple[str, str]:
    """Return a tool's name, and the tool under another one."""
    values: dict[str, Any] = json.loads(tool)
    inner = values.get("function")
    named = cast("dict[str, Any]", inner) if isinstance(inner, dict) else values
    name = str(named.get("name", ""))
    named["name"] = f"{name}_"
    return name, json.dumps(values)


def _is_in(part: str, text: str, reply: Reply | None) -> bool:
    start, end = (reply.start, reply.end) if reply else (0, len(text))
    return text.find(part, start, end) >= 0 or text.find(part.strip(), start, end) >= 0


def _matters(given: Given, place: int, other: Message) -> bool:
    """Say whether the text changes with another message in this place."""
    messages = list(given.messages)
    messages[place] = other
    return _text(given, messages, given.tools) != given.chat.text


def _text(given: Given, messages: Sequence[Message], tools: Sequence[str]) -> str | None:
    try:
        return render_text(messages, given.encoder, tools)
    except TemplateRefusalError:
        return None
