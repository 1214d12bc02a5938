"""Tools on offer and calls of them, as people's files write them: objects, or JSON text of them.

A tool stays what its author wrote, key for key. A call's arguments become compact JSON text, the
same whether they were an object or text.
"""

from __future__ import annotations

import json
from typing import Any, cast

from tunesmith.data.conversation import ToolCall
from tunesmith.data.fields import MISSING, FieldReader
from tunesmith.data.json_text import type_name

_CALL = '{"type": "function", "function": {"name": "...", "arguments": {...}}}'
_BARE_CALL = '{"name": "...", "arguments": {...}}'


def read_tools(reader: FieldReader) -> tuple[str, ...]:
    """Return the JSON texts of the tools that a row offers."""
    return read_tool_list(reader, reader.name("tools"), reader.value("tools"))


def read_tool_list(reader: FieldReader, field: str, value: object) -> tuple[str, ...]:
    """Return the JSON texts of tools given as a list, or as JSON text of one."""
    if isinstance(value, str):
        value = reader.decode(field, value, what="the tools' text") if value.strip() else None
    if value is None or value is MISSING:
        return ()
    if not isinstance(value, list):
        reader.wrong_type(field, value, "list of tools")
        return ()
    tools = cast("list[Any]", value)
    return tuple(
        text
        for index, tool in enumerate(tools)
        if (text := _read_tool(reader, f"{field}[{index}]", tool))
    )


def read_calls(reader: FieldReader, field: str, values: dict[str, Any]) -> tuple[ToolCall, ...]:
    """Return the calls of a message: its `tool_calls`, or the older `function_call`."""
    single = values.get("function_call")
    if single is not None:
        return _calls(reader, f"{field}.function_call", [single], in_list=False)
    many = values.get("tool_calls")
    if isinstance(many, str):
        many = reader.decode(f"{field}.tool_calls", many) if many.strip() else None
    if many is None or many is MISSING:
        return ()
    if not isinstance(many, list):
        reader.wrong_type(f"{field}.tool_calls", many, "list of calls")
        return ()
    return _calls(reader, f"{field}.tool_calls", cast("list[Any]", many))


def read_call_text(reader: FieldReader, field: str, value: object) -> tuple[ToolCall, ...]:
    """Return the call or calls that a `function_call` turn's JSON text holds."""
    if isinstance(value, str):
        value = reader.decode(field, value, what="the call")
        if value is MISSING:
            return ()
    if isinstance(value, list) and value:
        return _calls(reader, field, cast("list[Any]", value))
    return _calls(reader, field, [value], in_list=False)


def _calls(
    reader: FieldReader, field: str, items: list[Any], *, in_list: bool = True
) -> tuple[ToolCall, ...]:
    calls = [
        _read_call(reader, f"{field}[{index}]" if in_list else field, item)
        for index, item in enumerate(items)
    ]
    return tuple(call for call in calls if call is not None)


def _read_call(reader: FieldReader, field: str, item: object) -> ToolCall | None:
    if not isinstance(item, dict):
        reader.wrong_type(field, item, _BARE_CALL)
        return None
    call = cast("dict[str, Any]", item)
    function: object = call.get("function", call)
    inside = f"{field}.function" if "function" in call else field
    if not isinstance(function, dict):
        reader.wrong_type(inside, function, _BARE_CALL)
        return None
    named = cast("dict[str, Any]", function)
    kind = call.get("type", "function")
    if kind != "function":
        reader.fault(
            f"{field}.type", f"a call of type {kind!r}", "a call of type function",
            fix=f"write {_CALL}", reason="wrong tool call",
        )  # fmt: skip
    if "name" not in named:
        reader.fault(f"{inside}.name", "no name", "the tool's name", reason="wrong tool call")
        return None
    name = reader.check_text(f"{inside}.name", named["name"], may_be_empty=False)
    arguments = _read_arguments(reader, f"{inside}.arguments", name, named.get("arguments"))
    identity = call.get("id")
    text = "" if identity is None else reader.check_text(f"{field}.id", identity)
    return ToolCall(name, arguments, text)


def _read_arguments(reader: FieldReader, field: str, name: str, value: object) -> str:
    what = f'the text of the arguments of "{name}"'
    if isinstance(value, str) and value.strip():
        value = reader.decode(field, value, what=what)
        if value is MISSING:
            return "{}"
    if value is None or value == "":
        reader.note("a tool call without arguments, read as {}")
        return "{}"
    if not isinstance(value, dict):
        reader.fault(
            field, f'the arguments of "{name}" are {type_name(value, article=True)}',
            "an object, or JSON text of one", reason="wrong tool call",
        )  # fmt: skip
        return "{}"
    return to_json_text(reader, field, cast("object", value))


def _read_tool(reader: FieldReader, field: str, tool: object) -> str:
    if isinstance(tool, str):
        tool = reader.decode(field, tool, what="the tool's text")
        if tool is MISSING:
            return ""
    if not isinstance(tool, dict):
        reader.wrong_type(field, tool, "object")
        return ""
    return to_json_text(reader, field, cast("object", tool))


def to_json_text(reader: FieldReader, field: str, value: object) -> str:
    """Return a value as compact JSON text, its keys in their order."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        reader.fault(
            field, f"a value that JSON does not have ({error})", "JSON values only",
            reason="not JSON",
        )  # fmt: skip
        return "{}"
    return reader.check_text(field, text)
