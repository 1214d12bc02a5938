"""A prompt with a better and a worse answer, or with one answer that was rated.

The prompt is a text, a list of messages, an instruction, or the turns that both answers begin with;
an answer is a text, a message, or a list of messages that may repeat the prompt. A list `messages`
without a chosen answer brings it as its last turn, and so does a rated one.
"""

from __future__ import annotations

from typing import Any, cast

from tunesmith.data.conversation import Message, Preference, Sample
from tunesmith.data.fields import MISSING, Columns, FieldReader
from tunesmith.data.forms.chat import read_history, read_instruction, with_system
from tunesmith.data.forms.form import Column, Format, Values, is_there
from tunesmith.data.messages import NO_REPLY, as_messages, read_message_list
from tunesmith.data.tool_calls import read_tool_list, read_tools
from tunesmith.data.turns import check_turns

_CHOSEN = (
    *("chosen", "preferred_output", "preferred_completion", "chosen_messages"),
    "chosen_response",
)
_REJECTED = (
    *("rejected", "non_preferred_output", "non_preferred_completion", "rejected_messages"),
    "rejected_response",
)
_RATING = ("kto_tag", "label")
# A row that has none of these is no preference row.
MARKS = frozenset((*_CHOSEN, *_REJECTED, *_RATING))


def _fit(form: Format, values: Values, given: Columns) -> Columns | None:
    if not form.knows(given):
        return None
    named = {column.word: _pick(column, values, given) for column in form.columns}
    has = {word for word, name in named.items() if is_there(values, name)}
    is_pair = "rejected" in has and ("chosen" in has or "messages" in has)
    asked_and_answered = {"prompt", "completion"} <= has or {"instruction", "output"} <= has
    is_rated = "label" in has and ("messages" in has or asked_and_answered)
    if is_pair or (is_rated and _is_rating(values, named["label"])):
        return named
    return None


def _pick(column: Column, values: Values, given: Columns) -> str:
    own = given.get(column.word)
    names = column.names or (column.word,)
    return own or next((name for name in names if name in values), column.name)


def _is_rating(values: Values, name: str) -> bool:
    return name == "kto_tag" or _as_bool(values.get(name)) is not None


def _as_bool(value: object) -> bool | None:
    """Return a truth value, or the one that a text (of a CSV file) spells."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _read(reader: FieldReader) -> Sample:
    if reader.options.asked:
        return _read_asked(reader)
    if not reader.has("rejected") and not reader.has("chosen") and reader.has("label"):
        return _read_rated(reader)
    chosen, rejected = _read_answer(reader, "chosen"), _read_answer(reader, "rejected")
    prompt, last = _read_prompt(reader)
    chosen = last if chosen is None else chosen
    if chosen is None and not reader.faults:
        reader.missing("chosen", "an answer")
    if chosen is None or rejected is None or reader.faults:
        return Preference(prompt=(), chosen=(), rejected=())
    if not prompt:
        prompt = _shared_start(chosen, rejected)
    prompt, chosen = _without_prompt(reader, "chosen", prompt, chosen)
    prompt, rejected = _without_prompt(reader, "rejected", prompt, rejected)
    prompt = _check_prompt(reader, with_system(reader, prompt))
    chosen = _check_answer(reader, "chosen", prompt, chosen)
    rejected = _check_answer(reader, "rejected", prompt, rejected)
    if chosen == rejected and not reader.faults:
        reader.note("a chosen answer that equals the rejected one")
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, tools=_tools(reader))


def _read_asked(reader: FieldReader) -> Sample:
    """Read what comes before the last reply, and the reply unless it was rated bad."""
    words = ("chosen", "completion", "output")
    word = next((word for word in words if not reader.lacks_answer(word)), "")
    prompt, last = _read_prompt(reader)
    answer = (_read_answer(reader, word) if word else last) or ()
    if reader.faults:
        return Preference(prompt=(), chosen=(), rejected=None)
    if prompt:
        prompt, answer = _without_prompt(reader, word or "messages", prompt, answer)
    else:
        prompt, answer = answer[:-1], answer[-1:]
    prompt = _check_prompt(reader, with_system(reader, prompt))
    if not answer or _as_bool(reader.value("label")) is False:
        answer = (NO_REPLY,)
    else:
        answer = _check_answer(reader, word or "messages", prompt, answer)
    return Preference(prompt=prompt, chosen=answer, rejected=None, tools=_tools(reader))


def _read_rated(reader: FieldReader) -> Sample:
    is_good = _as_bool(reader.value("label"))
    if is_good is None:
        name, value = reader.name("label"), reader.value("label")
        reader.fault(name, f"the rating {value!r}", "true or false", reason="wrong rating")
    prompt, answer = _read_prompt(reader, ends_in_answer=True)
    if answer is None:
        answer = _read_answer(reader, "output" if reader.has("output") else "completion")
    if answer is None or reader.faults:
        return Preference(prompt=(), chosen=(), rejected=None)
    prompt = _check_prompt(reader, with_system(reader, prompt))
    answer = _check_answer(reader, "completion", prompt, answer)
    chosen, rejected = (answer, None) if is_good else (None, answer)
    return Preference(prompt=prompt, chosen=chosen, rejected=rejected, tools=_tools(reader))


def _read_prompt(
    reader: FieldReader, *, ends_in_answer: bool = False
) -> tuple[tuple[Message, ...], tuple[Message, ...] | None]:
    """Return the prompt's turns, and the answer where a list of messages ends with it."""
    outer = reader.value("input")
    if isinstance(outer, dict):
        return _read_input(reader, cast("dict[str, Any]", outer)), None
    if reader.has("prompt"):
        items = as_messages(reader.value("prompt"))
        if items is not None:
            return read_message_list(reader, reader.name("prompt"), items), None
        return (Message("user", reader.text("prompt", may_be_empty=False)),), None
    if reader.has("messages"):
        turns = read_message_list(reader, reader.name("messages"), reader.structured("messages"))
        if reader.options.asked and turns and turns[-1].role != "assistant":
            return turns, None
        if (ends_in_answer or not reader.has("chosen")) and turns:
            return turns[:-1], turns[-1:]
        return turns, None
    if reader.has("instruction"):
        return (*read_history(reader), Message("user", read_instruction(reader))), None
    return (), None


def _read_input(reader: FieldReader, values: dict[str, Any]) -> tuple[Message, ...]:
    name = reader.name("input")
    known = {"messages", "tools", "parallel_tool_calls"}
    reader.unread |= {f"{name}.{key}" for key in values.keys() - known}
    if "messages" not in values:
        reader.fault(f"{name}.messages", "no messages", "a list of messages", reason="no prompt")
        return ()
    return read_message_list(reader, f"{name}.messages", values["messages"])


def _tools(reader: FieldReader) -> tuple[str, ...]:
    outer = reader.value("input")
    if isinstance(outer, dict):
        values = cast("dict[str, Any]", outer)
        return read_tool_list(reader, f"{reader.name('input')}.tools", values.get("tools"))
    return read_tools(reader)


def _read_answer(reader: FieldReader, word: str) -> tuple[Message, ...] | None:
    """Return an answer's turns; None where there is no such column, or nothing in it."""
    value = reader.value(word)
    name = reader.name(word)
    if value is MISSING:
        if word != "chosen" or not reader.has("messages"):
            reader.missing(word, "an answer")
        return None
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        reader.fault(
            name, f"empty {word}", "an answer", fix="remove the row", reason=f"empty {word}"
        )
        return None
    items = as_messages(value)
    if items is None:
        return (Message("assistant", reader.check_text(name, value)),)
    return read_message_list(reader, name, items)


def _shared_start(one: tuple[Message, ...], other: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the turns that two conversations begin with, up to an assistant's turn."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    while same and not all(
        same < len(turns) and turns[same].role == "assistant" for turns in (one, other)
    ):
        same -= 1
    return one[:same]


def _without_prompt(
    reader: FieldReader, word: str, prompt: tuple[Message, ...], answer: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return the prompt and the answer without its repetition of the prompt."""
    if not answer or answer[0].role not in ("system", "user"):
        return prompt, answer
    own_system = tuple(turn for turn in answer[:1] if turn.role == "system")
    bare = prompt[1:] if prompt and prompt[0].role == "system" else prompt
    rest = answer[len(own_system) :]
    repeats = bare and _said(rest[: len(bare)]) == _said(bare)
    same_system = not own_system or len(bare) == len(prompt) or prompt[:1] == own_system
    if not repeats or not same_system:
        reader.fault(
            reader.name(word), "an answer that begins with another prompt",
            "an answer alone, or the prompt's own turns before it",
            fix="take the prompt's turns out of the answer", reason="two prompts in one row",
        )  # fmt: skip
    return (own_system or prompt[: len(prompt) - len(bare)]) + bare, rest[len(bare) :]


def _said(turns: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(turn.role, turn.content.strip()) for turn in turns]


def _check_prompt(reader: FieldReader, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    if reader.faults:
        return prompt
    words = ("input", "prompt", "messages", "instruction", "chosen")
    name = next((reader.name(word) for word in words if reader.has(word)), "prompt")
    if not prompt:
        reader.fault(
            name, "no prompt", "a prompt, or answers that both begin with it",
            fix="name the prompt's column in data.columns.prompt", reason="no prompt",
        )  # fmt: skip
        return prompt
    prompt = check_turns(reader, name, prompt, needs_reply=False)
    if not reader.faults and prompt[-1].role not in ("user", "tool"):
        reader.fault(
            name, f"a prompt that ends with the {prompt[-1].role}'s turn", "the user's turn last",
            fix="move the last turn into the answers", reason="wrong turn order",
        )  # fmt: skip
    return prompt


def _check_answer(
    reader: FieldReader, word: str, prompt: tuple[Message, ...], answer: tuple[Message, ...]
) -> tuple[Message, ...]:
    if reader.faults:
        return answer
    if not answer:
        reader.fault(
            reader.name(word), f"empty {word}", "an answer after the prompt",
            fix="remove the row", reason=f"empty {word}",
        )  # fmt: skip
        return answer
    return check_turns(reader, reader.name(word), (*prompt, *answer))[len(prompt) :]


PREFERENCE = Format(
    "preference",
    (
        Column("prompt", needed=False),
        Column("messages", ("messages", "conversations"), needed=False),
        Column("input", needed=False),
        Column("instruction", needed=False),
        Column("history", needed=False),
        Column("chosen", _CHOSEN, needed=False, answer=True),
        Column("rejected", _REJECTED, needed=False, answer=True),
        Column("completion", needed=False, answer=True),
        Column("output", needed=False, answer=True),
        Column("label", _RATING, needed=False, answer=True),
        Column("system", needed=False),
        Column("tools", ("tools", "functions"), needed=False),
        Column("parallel_tool_calls", needed=False),
    ),
    ("preference",),
    _read,
    _fit,
    usual="prompt + chosen + rejected",
)
