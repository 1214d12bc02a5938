"""From a recipe file (or a mapping) and `--set` overrides to a checked recipe with its origins.

All faults are reported at once. Relative paths in a file are taken from the file's own folder,
paths in `--set` from the current one.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ValidationError

from tunesmith.core.errors import Fault, RecipeError, TunesmithError
from tunesmith.core.run_dir import read_json
from tunesmith.recipe.consistency import contradictions
from tunesmith.recipe.continued import expand_adapter
from tunesmith.recipe.data import SAMPLE_PREFIX
from tunesmith.recipe.deepspeed_config import engine_settings
from tunesmith.recipe.faults import to_faults
from tunesmith.recipe.hub_name import parse_hub_name
from tunesmith.recipe.recipe import Recipe, expand_shorthand, with_rates
from tunesmith.recipe.recipe_file import read_recipe_text
from tunesmith.recipe.strategy import DeepSpeedStrategy
from tunesmith.recipe.template_file import read_template
from tunesmith.recipe.unknown_keys import PARTS, advise_on_key, keys_of
from tunesmith.recipe.words import expand_words
from tunesmith.recipe.yaml_text import KeyPath, dotted, parse_value, parse_yaml

Origin = Literal["default", "file", "flag", "adapter"]
Values = dict[str, Any]

FOREIGN_PREFIX = "x_"
# The values that may be paths.
PATH_KEYS: tuple[KeyPath, ...] = (
    ("data", "train"),
    ("data", "validation"),
    ("data", "test"),
    ("model", "source"),
    ("strategy", "config"),
)


@dataclass(frozen=True)
class LoadedRecipe:
    """A checked recipe, where each of its values came from, and the text it was read from."""

    recipe: Recipe
    origins: dict[str, Origin]
    text: str
    notes: tuple[str, ...] = ()


@dataclass
class _Draft:
    """The values on their way to a recipe, with what is needed to name places."""

    where: str
    base: Path
    text: str = ""
    values: Values = field(default_factory=dict[str, Any])
    lines: dict[KeyPath, int] = field(default_factory=dict[KeyPath, int])
    flags: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])
    blank: set[KeyPath] = field(default_factory=set[KeyPath])
    from_adapter: list[KeyPath] = field(default_factory=list[KeyPath])
    faults: list[Fault] = field(default_factory=list[Fault])
    notes: list[str] = field(default_factory=list[str])

    def locate(self, path: KeyPath) -> str:
        """The place of a path: its flag, its line, or that of the nearest part around it."""
        for length in range(len(path), -1, -1):
            around = path[:length]
            if around in self.flags:
                return f"--set {self.flags[around]}"
            if around in self.lines and around:
                return f"{self.where}:{self.lines[around]}, {dotted(path)}"
        return f"{self.where}, {dotted(path)}" if path else self.where


def load_recipe(
    source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()
) -> LoadedRecipe:
    """Read, override and check a recipe; raises RecipeError with every fault."""
    draft = _from_mapping(source) if isinstance(source, Mapping) else _from_file(Path(source))
    _set_aside_foreign_keys(draft)
    for override in overrides:
        _apply_override(draft, override)
    _write_out_words(draft)
    _write_out_adapter(draft)
    recipe = _check(draft)
    return LoadedRecipe(recipe, _origins(recipe, draft), draft.text, tuple(draft.notes))


def resolved(loaded: LoadedRecipe) -> dict[str, Any]:
    """The content of `resolved.json`: the complete recipe and every value's origin."""
    return {"recipe": loaded.recipe.model_dump(mode="json"), "origins": loaded.origins}


def recipe_from_resolved(path: Path) -> Recipe:
    """The recipe that a run folder's `resolved.json` holds."""
    content = read_json(path)
    values = cast(Values, content).get("recipe") if isinstance(content, dict) else None
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        draft = _Draft(where=str(path), base=path.parent)
        raise RecipeError(to_faults(error, draft.locate)) from error


def _from_mapping(source: Mapping[str, Any]) -> _Draft:
    text = json.dumps(dict(source), indent=2, default=str) + "\n"  # JSON is YAML, too
    draft = _Draft(where="the recipe", base=Path.cwd(), text=text)
    draft.values = copy.deepcopy(dict(source))
    _expand_shorthands(draft.values)
    return draft


def _from_file(path: Path) -> _Draft:
    path = path.expanduser()
    text = read_recipe_text(path)
    draft = _Draft(where=str(path), base=path.absolute().parent, text=text)
    parsed = parse_yaml(text, str(path))
    draft.lines, draft.blank, draft.faults = parsed.lines, parsed.blank, parsed.faults
    if isinstance(parsed.values, dict):
        draft.values = cast(Values, parsed.values)
        _expand_shorthands(draft.values)
    elif not draft.faults:
        found = "an empty recipe" if parsed.values is None else "no `key: value` lines"
        fix = "write at least model, task and data.train; tunesmith quickstart shows a recipe"
        raise RecipeError(Fault(found=found, where=str(path), fix=fix))
    if draft.faults and not draft.values:
        raise RecipeError(draft.faults)
    return draft


def _expand_shorthands(values: Values) -> None:
    for part in values:
        values[part] = expand_shorthand(part, values[part])


def _write_out_words(draft: _Draft) -> None:
    """Values that a word has set come from where the word does."""
    faults, placed = expand_words(draft.values)
    draft.faults += faults
    source = next((key for key in (("method", "type"), ("method",)) if key in draft.flags), None)
    for path in placed:
        if source is not None:
            draft.flags[path] = draft.flags[source]


def _write_out_adapter(draft: _Draft) -> None:
    """What a recipe goes on from says most of its method."""
    base = Path.cwd() if _from_flag(draft, ("method", "adapter")) else draft.base
    faults, placed = expand_adapter(draft.values, base)
    draft.faults += faults
    draft.from_adapter += placed


def _set_aside_foreign_keys(draft: _Draft) -> None:
    foreign = [key for key in draft.values if str(key).startswith(FOREIGN_PREFIX)]
    for key in foreign:
        del draft.values[key]
        draft.notes.append(f"{draft.locate((key,))}: a key for your own use, not read by Tunesmith")


def _apply_override(draft: _Draft, override: str) -> None:
    name, equals, text = override.partition("=")
    path = tuple(name.strip().split("."))
    if not equals or not all(path):
        fix = "write --set key=value, e.g. --set training.epochs=1"
        where = f"--set {override}"
        draft.faults.append(Fault(found=f"no key=value: {override!r}", where=where, fix=fix))
        return
    fault = _unknown_path(path, override) or _place(draft, path, text, override)
    if fault:
        draft.faults.append(fault)


def _unknown_path(path: tuple[str, ...], override: str) -> Fault | None:
    """Check the keys one by one here: pydantic would name the part's whole content."""
    part = ""
    for key in path:
        if part not in PARTS:
            fix = f"write --set {part}=VALUE"
            found = f"{part} holds a value, no keys"
            return Fault(found=found, where=f"--set {override}", fix=fix)
        if key not in keys_of(part):
            found, fix = advise_on_key(part, key)
            return Fault(found=found, where=f"--set {override}", fix=fix)
        part = f"{part}.{key}" if part else key
    return None


def _place(draft: _Draft, path: tuple[str, ...], text: str, override: str) -> Fault | None:
    name, where = ".".join(path), f"--set {override}"
    if not text.strip():
        draft.blank.add(path)
        fix = f"give {name} a value: --set {name}=VALUE"
        return Fault(found=f"{name} is left blank", where=where, fix=fix)
    try:
        value = parse_value(text)
    except ValueError as error:
        return Fault(found=str(error), where=where, fix="quote the value for YAML and the shell")
    target = draft.values
    for part in path[:-1]:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):  # a wrong value in the file: the flag replaces it
            inner = target[part] = {}
        target = cast(Values, inner)
    target[path[-1]] = expand_shorthand(name, value)
    # a flag counts for everything below it, and takes the place of an earlier one
    draft.flags = {key: flag for key, flag in draft.flags.items() if key[: len(path)] != path}
    draft.flags[path] = override
    draft.lines = {key: line for key, line in draft.lines.items() if key[: len(path)] != path}
    return None


def _check(draft: _Draft) -> Recipe:
    values = _with_absolute_paths(draft)
    draft.faults += _read_template(draft, values)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        faults = to_faults(error, draft.locate, blank=draft.blank)
        raise RecipeError([*draft.faults, *faults]) from error
    draft.faults += contradictions(recipe, draft.locate)
    draft.faults += _engine_faults(recipe, draft)
    if draft.faults:
        raise RecipeError(draft.faults)
    return with_rates(recipe)


def _engine_faults(recipe: Recipe, draft: _Draft) -> list[Fault]:
    """What a settings file of an engine's own contradicts; a missing one is told before a run."""
    strategy = recipe.strategy
    file = strategy.config if isinstance(strategy, DeepSpeedStrategy) else None
    if file is None or not Path(file).is_file():
        return []
    try:
        engine_settings(recipe, draft.locate)
    except TunesmithError as error:
        return list(error.faults)
    return []


def _with_absolute_paths(draft: _Draft) -> Values:
    values = copy.deepcopy(draft.values)
    for part, key in PATH_KEYS:
        inner = values.get(str(part))
        if not isinstance(inner, dict):
            continue
        keys = cast(Values, inner)
        base = Path.cwd() if _from_flag(draft, (part, key)) else draft.base
        value = keys.get(str(key))
        if isinstance(value, str) and _is_path(part, value, base):
            keys[str(key)] = str((base / Path(value).expanduser()).resolve())
    return values


def _read_template(draft: _Draft, values: Values) -> list[Fault]:
    """Put the text of a chat template in the place of its file's name: a run keeps what it had."""
    model, key = values.get("model"), ("model", "chat_template")
    given = cast(Values, model).get(key[1]) if isinstance(model, dict) else None
    if not isinstance(given, str) or not given.strip():
        return []
    base = Path.cwd() if _from_flag(draft, key) else draft.base
    try:
        cast(Values, model)[key[1]] = read_template(given, base, where=draft.locate(key))
    except RecipeError as error:
        return list(error.faults)
    return []


def _is_path(part: str | int, value: str, base: Path) -> bool:
    if not value.strip():
        return False
    if part == "strategy":
        return True
    if part == "data":
        if value.startswith(SAMPLE_PREFIX) or value.strip().endswith("%"):
            return False
        return parse_hub_name(value) is None or (base / value).exists()
    # a model's name is a path only when it says so, or when there is such a path
    says_so = value.startswith((".", "~", "/")) or value.endswith(".gguf")
    return says_so or ("/" in value and (base / value).exists())


def _from_flag(draft: _Draft, path: KeyPath) -> bool:
    return any(path[:length] in draft.flags for length in range(1, len(path) + 1))


def _origins(recipe: Recipe, draft: _Draft) -> dict[str, Origin]:
    origins: dict[str, Origin] = {}
    for path in _leaves(recipe.model_dump(mode="json"), ()):
        if not _has(draft.values, path):
            origins[dotted(path)] = "default"
        elif path in draft.from_adapter:
            origins[dotted(path)] = "adapter"
        elif _from_flag(draft, path):
            origins[dotted(path)] = "flag"
        else:
            origins[dotted(path)] = "file"
    return origins


def _leaves(values: Values, above: KeyPath) -> list[KeyPath]:
    leaves: list[KeyPath] = []
    for key, value in values.items():
        path = (*above, key)
        leaves += _leaves(cast(Values, value), path) if isinstance(value, dict) else [path]
    return leaves


def _has(values: Values, path: KeyPath) -> bool:
    inner: Any = values
    for key in path:
        if not isinstance(inner, dict) or key not in inner:
            return False
        inner = cast(dict[Any, Any], inner)[key]
    return True
