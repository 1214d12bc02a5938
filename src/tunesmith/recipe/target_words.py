"""How a recipe names the layers that a method is applied to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

TARGET_GROUPS = ("all-linear", "attention", "mlp")
Targets = (
    Literal["all-linear", "attention", "mlp"]
    | Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
)


def as_targets(value: object) -> object:
    """One module name becomes a list of one; lists become tuples; groups stay words."""
    return value if isinstance(value, str) and value in TARGET_GROUPS else as_names(value)


def as_names(value: object) -> object:
    """One name becomes a list of one; lists become tuples."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value
