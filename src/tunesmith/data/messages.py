"""From a row's list of messages to turns: roles, contents, calls, weights, and their order."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Any, cast

from tunesmith.data.conversation import ROLES, Message, Role
from tunesmith.data.fields import MISSING, FieldReader
from tunesmith.data.tool_calls import read_call_text, read_calls
from tunesmith.data.turns import check_turns

# What a role may be called, by the key that names it. Lists of `from` and `value` come from many
# hands, and each had its own word for the model.
_BY_ROLE: dict[str, Role] = {
    **{role: role for role in ROLES},
    "developer": "system",
    "function": "tool",
}
_CALLS = ("function_call", "tool_call")  # turns whose text is the call itself
_BY_FROM: dict[str, Role] = {
    **_BY_ROLE,
    "human": "user",
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", *_CALLS), "assistant"),
    **dict.fromkeys(("observation", "function_response", "tool_response"), "tool"),
}
_NEAREST: dict[str, Role] = {
    **_BY_FROM,
    **dict.fromkeys(("model", "bot", "ai", "chatbot"), "assistant"),
}
_TEXT_PARTS = ("text", "input_text", "output_text")
_THINKING = ("reasoning_content", "reasoning", "thinking")
_KEYS = {
    *("role", "from", "content", "value", "weight", "name", "tool_calls", "function_call"),
    *("tool_call_id", *_THINKING),
}


# The last turn of a conversation that is only asked.
NO_REPLY = Message("assistant", "")


def read_messages(reader: FieldReader, word: str) -> tuple[Message, ...]:
    """Read the turns of a column and hold them to their order.

    Turns that are only asked may end before the reply: it is added, and empty.
    """
    name = reader.name(word)
    value = reader.structured(word)
    if value is MISSING:
        if reader.value(word) is MISSING:
            reader.missing(word, "a list of messages")
        return ()
    num_faults = len(reader.faults)
    messages = read_message_list(reader, name, value)
    if not messages or len(reader.faults) > num_faults:
        return messages
    if reader.options.asked and messages[-1].role != "assistant":
        messages = (*messages, NO_REPLY)
    return check_turns(reader, name, messages)


def read_message_list(reader: FieldReader, field: str, value: object) -> tuple[Message, ...]:
    """Read turns, each written as role and content or as from and value, in whatever order."""
    if not isinstance(value, list):
        reader.wrong_type(field, value, "list")
        return ()
    items = cast("list[Any]", value)
    if not items:
        reader.fault(
            field, "empty messages", "at least a user's and an assistant's message",
            fix="remove the row", reason="empty messages",
        )  # fmt: skip
    return tuple(
        read_message(reader, f"{field}[{index}]", item) for index, item in enumerate(items)
    )


def read_message(reader: FieldReader, field: str, item: object) -> Message:
    """Read one turn."""
    if not isinstance(item, dict):
        reader.wrong_type(field, item, "object")
        return Message("user", "")
    values = cast("dict[str, Any]", item)
    role = _read_role(reader, field, values)
    key = "value" if "value" in values else "content"
    if values.get("from") in _CALLS:
        calls = read_call_text(reader, f"{field}.{key}", values.get(key))
        return Message("assistant", "", _read_weight(reader, field, values, role), "", calls)
    if len(values) == 2 and role and key in values:  # most messages by far
        return Message(role, _read_content(reader, field, values, key, role))
    column = field.partition("[")[0]
    unread = [other for other in values.keys() - _KEYS if values[other] is not None]
    reader.unread.update(f"{column}[].{other}" for other in unread)
    calls_some = bool(values.get("tool_calls") or values.get("function_call"))
    is_caller = role == "assistant" and calls_some
    calls = read_calls(reader, field, values) if is_caller else ()
    if role not in ("assistant", None):
        _refuse_calls(reader, field, values)
    return Message(
        role or "user",
        _read_content(reader, field, values, key, role, has_calls=is_caller),
        _read_weight(reader, field, values, role),
        _read_thinking(reader, field, values, role),
        calls,
        _read_name(reader, field, values, "name"),
        _read_name(reader, field, values, "tool_call_id"),
    )


def as_messages(value: object) -> list[Any] | None:
    """Return what may be a list of messages: a list, one message, or JSON text of a list of them.

    None is for a plain text, and one that begins with a bracket is a plain text, too.
    """
    if isinstance(value, dict):
        return [cast("object", value)]
    if isinstance(value, str):
        value = _decoded(value)
    return cast("list[Any]", value) if isinstance(value, list) else None


def nearest_role(given: str) -> Role | None:
    """Return the role that a word probably stands for."""
    low = given.strip().lower()
    near = get_close_matches(low, ROLES, n=1)
    return _NEAREST.get(low) or (cast("Role", near[0]) if near else None)


def _decoded(text: str) -> object:
    """Return the messages that a JSON text holds, or None."""
    if not text.lstrip().startswith("["):
        return None
    try:
        items: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not items:
        return None
    listed = cast("list[object]", items)
    are_messages = all(
        isinstance(item, dict) and ("role" in item or "from" in item) for item in listed
    )
    return listed if are_messages else None


def _read_role(reader: FieldReader, field: str, values: dict[str, Any]) -> Role | None:
    key = "from" if "from" in values else "role"
    known = _BY_FROM if key == "from" else _BY_ROLE
    given = values.get(key)
    if isinstance(given, str) and given in known:
        return known[given]
    allowed = ", ".join(known if key == "from" else ROLES)
    fix = f"use one of {allowed}"
    if isinstance(given, str):
        found = f'unknown role "{given}"'
        near = nearest_role(given)
        fix = f'did you mean "{near}"?' if near else fix
    else:
        found = f"no {key}" if key not in values else f"the {key} is no string"
    reader.fault(f"{field}.{key}", found, f"one of {allowed}", fix=fix, reason="unknown role")
    return None


def _read_content(
    reader: FieldReader,
    field: str,
    values: dict[str, Any],
    key: str,
    role: Role | None,
    *,
    has_calls: bool = False,
) -> str:
    value = values.get(key, MISSING)
    field = f"{field}.{key}"
    if has_calls and (value is None or value is MISSING):
        return ""
    if value is MISSING:
        reader.fault(field, f"no {key}", "string", fix="write the text", reason="missing content")
        return ""
    if isinstance(value, list):
        num_faults = len(reader.faults)
        value = _join_parts(reader, field, cast("list[Any]", value))
        if len(reader.faults) > num_faults:
            return ""
    may_be_empty = has_calls or role in ("system", "tool")
    return reader.check_text(field, value, may_be_empty=may_be_empty)


def _join_parts(reader: FieldReader, field: str, parts: list[Any]) -> str:
    """Join typed parts, which hosted services write; a part that is no text is a fault."""
    texts: list[str] = []
    for index, part in enumerate(parts):
        match part:
            case {"type": str(kind), "text": text} if kind in _TEXT_PARTS:
                texts.append(reader.check_text(f"{field}[{index}].text", text))
            case {"type": str(kind)} if kind not in _TEXT_PARTS:
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


def _read_weight(
    reader: FieldReader, field: str, values: dict[str, Any], role: Role | None
) -> float | None:
    value = values.get("weight")
    if value is None:
        return None
    field = f"{field}.weight"
    if isinstance(value, bool) or value not in (0, 1):
        reader.fault(field, f"weight {value!r}", "0 or 1", reason="wrong weight")
        return None
    if value == 1 and role not in ("assistant", None):
        reader.fault(
            field, f"weight 1 on a message of the {role}", "weights on the assistant's only",
            fix="remove it, or set data.train_on: all to train every token", reason="wrong weight",
        )  # fmt: skip
    return float(cast("int", value))


def _read_thinking(
    reader: FieldReader, field: str, values: dict[str, Any], role: Role | None
) -> str:
    given = [key for key in _THINKING if values.get(key)]
    texts = [reader.check_text(f"{field}.{key}", values[key]) for key in given]
    if len(set(texts)) > 1:
        reader.fault(
            f"{field}.{given[1]}", f"another text than in {given[0]}", "one text of reasoning",
            fix="keep one of them", reason="two texts of reasoning",
        )  # fmt: skip
    if texts and role not in ("assistant", None):
        reader.fault(
            f"{field}.{given[0]}", f"reasoning in a message of the {role}",
            "reasoning in the assistant's messages only", fix="remove it",
            reason="reasoning of another role",
        )  # fmt: skip
    return texts[0] if texts else ""


def _read_name(reader: FieldReader, field: str, values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    return "" if value is None else reader.check_text(f"{field}.{key}", value)


def _refuse_calls(reader: FieldReader, field: str, values: dict[str, Any]) -> None:
    for key in ("tool_calls", "function_call"):
        if values.get(key):
            reader.fault(
                f"{field}.{key}", "a tool call in a message that is not the assistant's",
                "tool calls in the assistant's messages only", fix="mend the role, or remove it",
                reason="wrong tool call",
            )  # fmt: skip
