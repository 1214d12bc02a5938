"""`tunesmith recipe`: every value that holds, and where it comes from."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tunesmith.cli import output
from tunesmith.recipe.load import load_recipe, resolved


def recipe(
    file: Path,
    /,
    *,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    json: bool = False,
) -> int:
    """Check a recipe and show it in full, with where each value comes from.

    Parameters
    ----------
    file:
        The recipe, a YAML file.
    overrides:
        A value in place of the recipe's, as key=value. May be repeated.
    json:
        Print one JSON document.
    """
    loaded = load_recipe(file, overrides)
    content = resolved(loaded)
    if json:
        output.show_json({**content, "notes": list(loaded.notes)})
        return 0
    rows = [
        (name, _shown(_value_at(content["recipe"], name)), origin)
        for name, origin in loaded.origins.items()
    ]
    output.show_table(rows, ("key", "value", "origin"))
    for text in loaded.notes:
        output.note(text)
    return 0


def _value_at(values: Mapping[str, Any], name: str) -> Any:
    inner: Any = values
    for key in name.split("."):
        inner = inner[key]
    return inner


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json_format.dumps(value)
