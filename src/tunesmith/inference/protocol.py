"""What is said between a chat and the process that runs the model: one JSON object a line.

    to the process      {"messages": [...]} or {"prompt": "..."}
                        and, as wanted, max_new_tokens, temperature, seed
    from the process    {"ready": {...}} once
                        {"delta": "..."} some times, then {"done": {...}}, for each request
                        {"error": {"kind", "code", "faults"}} in place of ready or done

Lines are ASCII, so that no text and no terminal can break them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tunesmith.core.errors import (
    DataError,
    Fault,
    MachineError,
    ModelError,
    RecipeError,
    RunError,
    TunesmithError,
    UserError,
)

DEFAULT_MAX_NEW_TOKENS = 512

# The stable word of an error names its kind again on the other side.
_KINDS: dict[str, type[TunesmithError]] = {
    kind.__name__: kind
    for kind in (DataError, MachineError, ModelError, RecipeError, RunError, UserError)
}


@dataclass(frozen=True)
class Ready:
    """The model is loaded. `name` is what was asked for, `base` the model below an adapter."""

    name: str
    base: str
    task: Literal["chat", "completion"]
    system: str | None = None


@dataclass(frozen=True)
class Delta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class Done:
    """The answer has ended; "stopped" means that it was asked to."""

    finish_reason: Literal["stop", "length", "stopped"]
    prompt_tokens: int
    tokens: int
    seconds: float


Reply = Ready | Delta | Done


def to_line(reply: Reply | TunesmithError) -> str:
    """One line for a reply."""
    match reply:
        case Ready():
            return _line({"ready": asdict(reply)})
        case Delta(text):
            return _line({"delta": text})
        case Done():
            return _line({"done": asdict(reply)})
        case TunesmithError():
            faults = [asdict(fault) for fault in reply.faults]
            kind = type(reply).__name__
            return _line({"error": {"kind": kind, "code": reply.code, "faults": faults}})


def from_line(line: str) -> Reply:
    """The reply of one line; raises the error that the line holds."""
    values: Mapping[str, Any] = json.loads(line)
    match values:
        case {"ready": fields}:
            return Ready(**fields)
        case {"delta": text}:
            return Delta(text)
        case {"done": fields}:
            return Done(**fields)
        case {"error": {"kind": kind, "code": code, "faults": faults}}:
            raise _KINDS.get(kind, RunError)([Fault(**fault) for fault in faults], code=code)
        case _:
            raise ValueError(f"not a reply: {line!r}")


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"
