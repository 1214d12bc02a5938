"""From pydantic's errors to faults in a user's words: one for each path, with its line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence, Set
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith.core.errors import Fault
from tunesmith.recipe.method import METHOD_TYPES
from tunesmith.recipe.part import Part
from tunesmith.recipe.recipe import SHORTHANDS
from tunesmith.recipe.strategy import STRATEGY_TYPES
from tunesmith.recipe.target import TARGET_TYPES
from tunesmith.recipe.task import ForeignOptionError
from tunesmith.recipe.unavailable import VALUES
from tunesmith.recipe.unknown_keys import PARTS, advise_on_key, keys_of
from tunesmith.recipe.yaml_text import KeyPath, dotted

Locate = Callable[[KeyPath], str]

# Fields that take more than one kind of value: pydantic reports each kind's failure by itself.
EXPECTED = {
    "data.validation": "a file, or a share such as 10%",
    "training.warmup": "a share of the steps such as 3%, or a whole number of steps",
    "training.betas": "two numbers from 0 to below 1, e.g. [0.9, 0.999]",
    "strategy.processes": "auto, or a whole number from 1 on",
    "target.cores": "auto, or a whole number from 1 on",
    "method.targets": "all-linear, attention, mlp, or a list of module names",
}
# Lists whose wrong items are named one by one.
LISTS = ("evaluation.metrics", "tracking.to")
LONGEST_VALUE = 60


def to_faults(
    error: ValidationError, locate: Locate, *, blank: Set[KeyPath] = frozenset()
) -> list[Fault]:
    """One fault for each path of the recipe that is wrong, in the order of the recipe.

    The `blank` paths are reported already; only that such a key does not exist is added.
    """
    faults: dict[KeyPath, Fault] = {}
    for detail in error.errors(include_url=False):
        path = _recipe_path(detail["loc"])
        if detail["type"] == "union_tag_invalid":
            path = (*path, "type")
        known_blank = path in blank and detail["type"] != "extra_forbidden"
        if path not in faults and not known_blank:
            faults[path] = _fault(detail, path, locate)
    return list(faults.values())


def describe_value(detail: ErrorDetails, name: str) -> tuple[str, str]:
    """Return what was found under a name of the caller's, and what to do where that is known."""
    match detail["type"]:
        case "value_error":
            return str(detail["ctx"]["error"]), ""  # pyright: ignore[reportTypedDictNotRequiredAccess]
        case "missing":
            return f"{name} is missing", ""
        case _:
            return f"{name} is {_shown(detail['input'])}", f"write {_expected(detail)}"


def _recipe_path(loc: Sequence[str | int]) -> KeyPath:
    """The path without pydantic's own steps (a union's tag, a kind of value)."""
    path: list[str | int] = []
    for step in loc:
        part = dotted(tuple(path))
        if part == "method" and step in METHOD_TYPES:
            continue
        if part == "strategy" and step in STRATEGY_TYPES:
            continue
        if part == "target" and step in TARGET_TYPES:
            continue
        if part == "task" and step in ("chat", "completion", "preference"):
            continue
        if part in PARTS or (part in LISTS and isinstance(step, int)):
            path.append(step)
            continue
        break
    return tuple(path)


def _fault(detail: ErrorDetails, path: KeyPath, locate: Locate) -> Fault:
    name = dotted(path)
    where = locate(path)
    match detail["type"]:
        case "extra_forbidden":
            *parents, key = path
            found, fix = advise_on_key(dotted(tuple(parents)), str(key))
        case "missing" if not isinstance(detail["loc"][-1], int):  # an item of a list has no name
            found, fix = f"{name} is missing", f"add {_example(name)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            found = f"{name} is {_shown(detail['input'])}"
            fix = f"write the part's keys below it: {', '.join(keys_of(name))}"
        case _:
            found, fix = _about_value(detail, name)
    return Fault(found=found, where=where, fix=fix)


def _about_value(detail: ErrorDetails, name: str) -> tuple[str, str]:
    value = detail.get("ctx", {}).get("tag", detail["input"])
    field_name = name.partition("[")[0]
    if isinstance(value, str):
        reason = VALUES.get(field_name, {}).get(value.lower())
        if reason:
            return f"{field_name.removesuffix('.type')}: {value} {reason[0]}", reason[1]
    cause: object = detail.get("ctx", {}).get("error")
    if isinstance(cause, ForeignOptionError):
        return f"{name} {cause}", cause.fix
    expected = EXPECTED.get(field_name) or _expected(detail)
    found = f"{name} is {_shown(value)}"
    if detail["type"] == "value_error":
        found = f"{name}: {detail['ctx']['error']}"  # pyright: ignore[reportTypedDictNotRequiredAccess]
    return found, f"write {expected}" + _hint(detail, value) + _meaning(field_name)


def _expected(detail: ErrorDetails) -> str:
    ctx: dict[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "string_type":
            return "text"
        case "int_type" | "int_from_float":
            return "a whole number"
        case "float_type":
            return "a number"
        case "finite_number":
            return "a finite number"
        case "bool_type":
            return "true or false, without quotes"
        case "literal_error" | "union_tag_invalid":
            words = str(ctx.get("expected") or ctx.get("expected_tags"))
            return "one of " + words.replace("'", "").replace(" or ", ", ")
        case "greater_than":
            return f"a number above {ctx['gt']}"
        case "greater_than_equal":
            return f"a number from {ctx['ge']} on"
        case "less_than":
            return f"a number below {ctx['lt']}"
        case "less_than_equal":
            return f"a number up to {ctx['le']}"
        case "string_too_short":
            return "text that is not empty"
        case "too_short":
            return f"a list of {ctx['min_length']} or more"
        case "too_long":
            return f"a list of {ctx['max_length']} or fewer"
        case "tuple_type" | "list_type":
            return "a list"
        case "dict_type" | "model_type" | "model_attributes_type" | "dataclass_type":
            return "a mapping of keys to values"
        case "none_required":
            return "nothing"
        case _:
            return "something else"


def _hint(detail: ErrorDetails, value: object) -> str:
    if detail["type"] == "string_type" and isinstance(value, (int, float)):
        return ", in quotes"
    words = [word.strip() for word in _expected(detail).removeprefix("one of ").split(",")]
    near = difflib.get_close_matches(str(value), words, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _meaning(name: str) -> str:
    """The field's own description, and its default as an example."""
    part, _, key = name.rpartition(".")
    for model in PARTS.get(part, ()):
        field = model.model_fields.get(key)
        if field is None or not field.description:
            continue
        default = "" if field.is_required() or field.default is None else _default(field.default)
        return f". {field.description}{default}"
    return ""


def _default(value: object) -> str:
    if isinstance(value, Part):
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)  # pyright: ignore[reportUnknownArgumentType]
    return f" Default: {text.lower() if isinstance(value, bool) else text}." if text else ""


def _example(name: str) -> str:
    examples = {
        "model": "model: smollm2-135m-instruct",
        "task": "task: chat",
        "data": "data: {train: train.jsonl}",
        "data.train": "data.train: train.jsonl",
    }
    if name in examples:
        return examples[name]
    part, _, key = name.rpartition(".")
    return examples[part] if SHORTHANDS.get(part) == key and part in examples else name


def _shown(value: object) -> str:
    is_text = isinstance(value, str)
    text = f"the text {value!r}" if is_text else json.dumps(value, default=str)
    text = "empty" if value == "" else text
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " ..."
