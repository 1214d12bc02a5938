"""The order of turns: who may follow whom, which result answers which call, joined neighbours.

    system?  user  assistant  user  assistant(calls)  tool  tool  assistant  ...  assistant

A tool's result names the call that it answers, or none where the order says it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.conversation import Message, role_sequence
from tunesmith.data.fields import FieldReader

_MAX_ROLES = 40  # as many as an error prints


def check_turns(
    reader: FieldReader, field: str, messages: Sequence[Message], *, needs_reply: bool = True
) -> tuple[Message, ...]:
    """Return the turns, neighbours joined where the recipe says so; note what is out of order.

    `needs_reply` is off for a prompt, which ends before the assistant's turn.
    """
    turns = tuple(messages)
    if reader.options.turn_order == "merge":
        turns = _join_neighbours(reader, turns)
    if needs_reply and all(turn.role != "assistant" for turn in turns):
        _fault(
            reader, field, turns, "no assistant reply", "at least one assistant message",
            fix="add the reply that is to be learned, or remove the row",
        )  # fmt: skip
        return turns
    if not _check_results(reader, field, turns):
        return turns
    in_order = all(map(_may_follow, (None, *turns), turns))
    ends_well = not needs_reply or turns[-1].role == "assistant"
    if in_order and ends_well:
        return turns
    last = f"the last message is the {turns[-1].role}'s and has no reply"
    _fault(
        reader, field, turns, last if in_order else "wrong turn order",
        "user and assistant in turn, the assistant last, after at most one system message; "
        "tool results after the calls",
        fix=(
            "add the reply, or remove the message"
            if in_order
            else "set data.turn_order: merge to join neighbours of one role, or mend the row"
        ),
        reason="wrong turn order",
    )  # fmt: skip
    return turns


def _may_follow(before: Message | None, turn: Message) -> bool:
    match turn.role:
        case "system":
            return before is None
        case "user":
            return before is None or before.role in ("system", "assistant")
        case "assistant":
            return before is not None and before.role in ("user", "tool")
        case "tool":
            return True  # held to its call by _check_results


def _check_results(reader: FieldReader, field: str, turns: Sequence[Message]) -> bool:
    """Say whether every tool result follows the call that it answers."""
    caller: Message | None = None
    num_faults = len(reader.faults)
    for index, turn in enumerate(turns):
        if turn.role != "tool":
            caller = turn if turn.role == "assistant" and turn.tool_calls else None
            continue
        ids = [call.id for call in caller.tool_calls] if caller else []
        if caller is None:
            _fault(
                reader, f"{field}[{index}]", turns, "a tool result without a call",
                "the assistant's tool call before it",
                fix="add the call, or remove the result",
            )  # fmt: skip
        elif turn.tool_call_id and turn.tool_call_id not in ids:
            made = ", ".join(f'"{one}"' for one in ids if one) or "no id"
            reader.fault(
                f"{field}[{index}].tool_call_id", f'no call has the id "{turn.tool_call_id}"',
                f"the id of a call of the assistant's turn before it ({made})",
                reason="a tool result without a call",
            )  # fmt: skip
    return len(reader.faults) == num_faults


def _join_neighbours(reader: FieldReader, turns: Sequence[Message]) -> tuple[Message, ...]:
    joined: list[Message] = []
    for turn in turns:
        if joined and _may_join(joined[-1], turn):
            reader.note("neighbouring turns of one role, joined with a blank line")
            if joined[-1].name != turn.name:
                reader.note("joined turns of two speakers, whose names are left out")
            joined[-1] = _join(joined[-1], turn)
        else:
            joined.append(turn)
    return tuple(joined)


def _may_join(one: Message, other: Message) -> bool:
    # A text after a call would be printed before it; two weights have no sum.
    is_out_of_line = bool(one.tool_calls) and bool(other.content or other.thinking)
    alike = one.role == other.role != "tool" and one.weight == other.weight
    return alike and not is_out_of_line


def _join(one: Message, other: Message) -> Message:
    return Message(
        role=one.role,
        content="\n\n".join(text for text in (one.content, other.content) if text),
        weight=one.weight,
        thinking="\n\n".join(text for text in (one.thinking, other.thinking) if text),
        tool_calls=one.tool_calls + other.tool_calls,
        name=one.name if one.name == other.name else "",
    )


def _fault(
    reader: FieldReader,
    field: str,
    turns: Sequence[Message],
    found: str,
    expected: str,
    *,
    fix: str,
    reason: str = "",
) -> None:
    roles = role_sequence(turns[:_MAX_ROLES]) + (",..." if len(turns) > _MAX_ROLES else "")
    reader.fault(field, f"{found} (roles {roles})", expected, fix=fix, reason=reason or found)
