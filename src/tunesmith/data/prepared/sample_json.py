"""A sample as JSON and back: how rows that are asked later are kept beside their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, assert_never

import orjson

from tunesmith.data.conversation import (
    Conversation,
    Labelled,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
    ToolCall,
)

_PLACE = ("row_id", "file", "line")


def sample_to_json(sample: Sample) -> bytes:
    """Return everything but the place."""
    values = {key: value for key, value in asdict(sample).items() if key not in _PLACE}
    return orjson.dumps({"kind": type(sample).__name__, **values})


def sample_from_json(text: bytes, *, row_id: str, file: str, line: int) -> Sample:
    """Return the sample, at its place."""
    values: dict[str, Any] = orjson.loads(text)
    return replace(_without_place(values), row_id=row_id, file=file, line=line)


def _without_place(values: Mapping[str, Any]) -> Sample:
    match values["kind"]:
        case "Conversation":
            return Conversation(
                messages=_messages(values["messages"]),
                tools=tuple(values["tools"]),
                labelled=_labelled(values["labelled"]),
            )
        case "Preference":
            chosen, rejected = values["chosen"], values["rejected"]
            return Preference(
                prompt=_messages(values["prompt"]),
                chosen=None if chosen is None else _messages(chosen),
                rejected=None if rejected is None else _messages(rejected),
                tools=tuple(values["tools"]),
            )
        case "PromptCompletion":
            return PromptCompletion(prompt=values["prompt"], completion=values["completion"])
        case "PlainText":
            return PlainText(text=values["text"])
        case kind:
            assert_never(kind)  # pyright: ignore[reportArgumentType]


def _labelled(values: dict[str, Any] | None) -> Labelled | None:
    if values is None:
        return None
    lists = {key: tuple(values[key]) for key in ("texts", "labels", "starts")}
    return Labelled(kind=values["kind"], whole=values["whole"], **lists)


def _messages(items: list[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(
        replace(Message(**item), tool_calls=tuple(ToolCall(**call) for call in item["tool_calls"]))
        for item in items
    )
