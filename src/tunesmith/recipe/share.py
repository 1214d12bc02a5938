"""A share of something: written `10%` or 0.1, kept as a fraction, written back as `10%`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema


@dataclass(frozen=True)
class Share:
    """A fraction from 0 to 1."""

    fraction: float

    def __str__(self) -> str:
        return f"{self.fraction * 100:.12g}%"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Take a Share as it is; `parse_share` before it makes one from text and numbers."""
        return core_schema.is_instance_schema(
            cls,
            serialization=core_schema.plain_serializer_function_ser_schema(_as_text),
        )


def _as_text(value: object) -> object:
    """Write a Share out; beside a number or a path in a union this is asked about those, too."""
    return str(value) if isinstance(value, Share) else value


def parse_share(value: object) -> object:
    """Turn `10%` and 0.1 into a Share; leave whole numbers and other text as they are."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return _from_percent(value)
    if isinstance(value, float):
        return _checked(value, str(value))
    return value


def _from_percent(text: str) -> Share:
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        raise ValueError(f"{text!r} is not a share such as 10%") from None
    return _checked(percent / 100, text)


def _checked(fraction: float, text: str) -> Share:
    if not 0 <= fraction <= 1:
        raise ValueError(f"{text} is not a share between 0% and 100%")
    return Share(fraction)
