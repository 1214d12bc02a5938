"""The recipe's `strategy` part: how the work is spread over devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.recipe.part import Part


class StrategyPart(Part):
    """How the work is spread."""

    type: Annotated[Literal["single"], Field(description="One process on one device.")] = "single"
