"""From a row's list of messages to turns: roles, contents, weights, the order of turns."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, cast

from tunesmith.data.conversation import ROLES, Message, Role, role_sequence
from tunesmith.data.fields import FieldReader

# What other tools call the roles.
_ALIASES: dict[str, Role] = {"human": "user", "gpt": "assistant", "chatgpt": "assistant"}
_NEAREST: dict[str, str] = {"developer": "system", "model": "assistant", "bot": "assistant"}


def read_messages(reader: FieldReader, column: str) -> tuple[Message, ...]:
    """Read the turns of a column, each written as role and content or as from and value."""
    name = reader.name(column)
    items = _read_list(reader, name)
    num_faults = len(reader.faults)
    messages = tuple(
        _read_message(reader, f"{name}[{index}]", item) for index, item in enumerate(items)
    )
    if items and len(reader.faults) == num_faults:
        _check_order(reader, name, messages)
    _refuse_tools(reader)
    return messages


def _read_list(reader: FieldReader, name: str) -> list[Any]:
    if name not in reader.values:
        reader.fault(
            name, f'no column "{name}" in this row', "a list of messages", reason="missing column"
        )
        return []
    value = reader.values[name]
    if not isinstance(value, list):
        reader.wrong_type(name, value, "list")
        return []
    items = cast("list[Any]", value)
    if not items:
        reader.fault(
            name, "empty messages", "at least a user's and an assistant's message",
            fix="remove the row", reason="empty messages",
        )  # fmt: skip
    return items


def _read_message(reader: FieldReader, field: str, item: object) -> Message:
    if not isinstance(item, dict):
        reader.wrong_type(field, item, "object")
        return Message("user", "")
    values = cast("dict[str, Any]", item)
    role = _read_role(reader, field, values)
    content_key = "value" if "value" in values else "content"
    content = _read_content(reader, f"{field}.{content_key}", values, content_key, role)
    weight = _read_weight(reader, f"{field}.weight", values.get("weight"), role)
    for key in ("tool_calls", "function_call"):
        if values.get(key):
            reader.fault(
                f"{field}.{key}", "a tool call", "messages of text only",
                fix="remove the row: tool calls are not read", reason="tool calls",
            )  # fmt: skip
    return Message(role or "user", content, weight)


def _read_role(reader: FieldReader, field: str, values: dict[str, Any]) -> Role | None:
    key = "from" if "from" in values else "role"
    given = values.get(key)
    allowed = ", ".join((*(_ALIASES if key == "from" else ()), *ROLES))
    if given in ROLES:
        return given
    if key == "from" and given in _ALIASES:
        return _ALIASES[cast("str", given)]
    if isinstance(given, str):
        found = f'unknown role "{given}"'
        near = _nearest_role(given)
        fix = f'did you mean "{near}"?' if near else f"use one of {allowed}"
    else:
        found = f"no {key}" if key not in values else f"the {key} is no string"
        fix = f"use one of {allowed}"
    reader.fault(f"{field}.{key}", found, f"one of {allowed}", fix=fix, reason="unknown role")
    return None


def _nearest_role(given: str) -> str | None:
    low = given.strip().lower()
    near = get_close_matches(low, ROLES, n=1)
    return _ALIASES.get(low) or _NEAREST.get(low) or (near[0] if near else None)


def _read_content(
    reader: FieldReader, field: str, values: dict[str, Any], key: str, role: Role | None
) -> str:
    if key not in values:
        reader.fault(field, f"no {key}", "string", fix="write the text", reason="missing content")
        return ""
    value = values[key]
    if isinstance(value, list):
        num_faults = len(reader.faults)
        value = _join_parts(reader, field, cast("list[Any]", value))
        if len(reader.faults) > num_faults:
            return ""
    return reader.check_text(field, value, may_be_empty=role == "system")


def _join_parts(reader: FieldReader, field: str, parts: list[Any]) -> str:
    """Join typed parts, which hosted services write; a part that is no text is a fault."""
    texts: list[str] = []
    for index, part in enumerate(parts):
        match part:
            case {"type": "text", "text": text}:
                texts.append(reader.check_text(f"{field}[{index}].text", text))
            case {"type": str(kind)} if kind != "text":
                reader.fault(
                    f"{field}[{index}]", f'a part of type "{kind}"', "a part of type text",
                    fix="remove the row: only text is read", reason="a part that is no text",
                )  # fmt: skip
            case _:
                reader.fault(
                    f"{field}[{index}]", "a part without type and text",
                    '{"type": "text", "text": "..."}', reason="wrong type",
                )  # fmt: skip
    return "".join(texts)


def _read_weight(reader: FieldReader, field: str, value: object, role: Role | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        reader.fault(field, f"weight {value!r}", "0 or 1", reason="wrong weight")
        return None
    if value == 1 and role in ("system", "user"):
        reader.fault(
            field, f"weight 1 on a message of the {role}", "weights on the assistant's only",
            fix="remove it, or set data.train_on: all to train every token", reason="wrong weight",
        )  # fmt: skip
    return float(cast("int", value))


def _check_order(reader: FieldReader, name: str, messages: tuple[Message, ...]) -> None:
    """Hold the turns to: an optional system message, then user and assistant in turn to the end."""
    roles = role_sequence(messages)
    if all(message.role != "assistant" for message in messages):
        reader.fault(
            name, f"no assistant reply (roles {roles})", "at least one assistant message",
            fix="add the reply that is to be learned, or remove the row",
            reason="no assistant reply",
        )  # fmt: skip
        return
    turns = messages[1:] if messages[0].role == "system" else messages
    in_order = all(
        message.role == ("user", "assistant")[index % 2] for index, message in enumerate(turns)
    )
    if in_order and turns[-1].role == "assistant":
        return
    last = "the last message is the user's and has no reply" if in_order else "wrong turn order"
    reader.fault(
        name, f"{last} (roles {roles})",
        "user and assistant in turn, the assistant last, after at most one system message",
        fix="join neighbours of one role, or remove the message that is out of turn",
        reason="wrong turn order",
    )  # fmt: skip


def _refuse_tools(reader: FieldReader) -> None:
    tools = reader.values.get("tools")
    if tools and tools != "[]":
        reader.fault(
            "tools", "a list of tools", "messages of text only",
            fix="remove the row: tools are not read", reason="tools",
        )  # fmt: skip
