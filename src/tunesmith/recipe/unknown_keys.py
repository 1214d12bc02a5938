"""From a key that no recipe has to the advice that helps: the situations differ, so do the answers.

It may be known but not available, another tool's name, an option of a command, a key of another
part, a key of the other method, or a slip of the pen.
"""

from __future__ import annotations

import difflib
from typing import get_args

from tunesmith.recipe.data import ColumnMap, DataPart
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.foreign_keys import COMMAND_OPTIONS, OUR_KEYS
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.model import ModelPart, SpecialTokens
from tunesmith.recipe.part import Part
from tunesmith.recipe.peft_method import PeftMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import STRATEGIES
from tunesmith.recipe.target import TARGETS
from tunesmith.recipe.task import ClassificationTask, NerTask, PreferenceTask, QaTask, WrittenTask
from tunesmith.recipe.tracking import TrackingPart
from tunesmith.recipe.training import TrainingPart
from tunesmith.recipe.unavailable import KEYS

PARTS: dict[str, tuple[type[Part], ...]] = {
    "": (Recipe,),
    "model": (ModelPart,),
    "model.special_tokens": (SpecialTokens,),
    "task": (WrittenTask, ClassificationTask, NerTask, QaTask, PreferenceTask),
    "data": (DataPart,),
    "data.columns": (ColumnMap,),
    "method": (LoraMethod, FullMethod, PeftMethod),
    "training": (TrainingPart,),
    "strategy": STRATEGIES,
    "target": TARGETS,
    "evaluation": (EvaluationPart,),
    "tracking": (TrackingPart,),
}


def keys_of(part: str) -> tuple[str, ...]:
    """The keys that a part may have, in the order in which they are declared."""
    keys = [key for model in PARTS.get(part, ()) for key in model.model_fields]
    return tuple(dict.fromkeys(keys))


def advise_on_key(part: str, key: str) -> tuple[str, str]:
    """What is the matter with `key` in `part`, and what to do: (found, fix)."""
    path = f"{part}.{key}" if part else key
    word = key.lower().replace("-", "_").rpartition(".")[2]
    if path in KEYS or word in KEYS:
        reason, fix = KEYS.get(path) or KEYS[word]
        return f"{path} {reason}", fix
    if word in OUR_KEYS:
        return f"unknown key {path}: another tool's name", f"here it is {OUR_KEYS[word]}"
    if word in COMMAND_OPTIONS:
        found = f"unknown key {path}: it is given on the command line, not in a recipe"
        return found, f"use {COMMAND_OPTIONS[word]}"
    if word in keys_of(part) and part == "method":
        return f"{path} does not belong to this method", f"remove {path}, or use method.type: lora"
    if word in keys_of(part) and part in ("strategy", "target"):
        types = _types_with(part, word)
        return (
            f"{path} does not belong to this {part}",
            f"remove {path}, or use {part}.type: {types}",
        )
    if word in keys_of(part) and part == "task":
        return (
            f"{path} does not belong to this task",
            f"remove {path}, or use task: {_types_with('task', word)}",
        )
    return f"unknown key {path}", _nearest(part, word)


def _types_with(part: str, key: str) -> str:
    """Return the types of a part that have a key, as alternatives."""
    types = (model for model in PARTS[part] if key in model.model_fields)
    words = [word for model in types for word in get_args(model.model_fields["type"].annotation)]
    return " or ".join(words)


def _nearest(part: str, word: str) -> str:
    if word in keys_of(part):
        return f"did you mean {word}?"
    for other in PARTS:
        if other and word in keys_of(other):
            return f"it belongs to another part: write {other}.{word}"
    here = difflib.get_close_matches(word, keys_of(part), n=1)
    if here:
        return f"did you mean {here[0]}?"
    owners = {key: other for other in PARTS if other for key in keys_of(other)}
    elsewhere = difflib.get_close_matches(word, owners, n=1, cutoff=0.7)
    if elsewhere:
        near = elsewhere[0]
        return f"did you mean {near}? it is written {owners[near]}.{near}"
    known = ", ".join(keys_of(part))
    if part:
        return f"remove it; {part} has the keys: {known}"
    return f"remove it; a recipe has the parts: {known} (a key for your own use starts with x_)"
