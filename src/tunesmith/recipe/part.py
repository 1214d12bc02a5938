"""What every part of a recipe has in common: frozen, unknown keys refused, types taken strictly."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """The base of all parts. It holds settings only, no behaviour."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,  # "three" or "3" is no number, 1 is no truth value
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=False,
    )


def one_or_several(value: object) -> object:
    """Read a word as the one item of a list, and a list as a tuple; anything else as it is."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value
