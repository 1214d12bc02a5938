"""The recipe's `model` part: which weights to start from. `model: NAME` is short for the source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.recipe.part import Part


class ModelPart(Part):
    """The base model."""

    source: Annotated[
        str,
        Field(
            min_length=1,
            description="A catalogue name, a hub id, a folder, or a GGUF file.",
        ),
    ]
    revision: Annotated[
        str | None,
        Field(min_length=1, description="The hub revision: a commit, tag or branch."),
    ] = None
    dtype: Annotated[
        Literal["auto", "fp32", "bf16"],
        Field(
            description="How the base weights are kept; auto: bf16 where that is fast, else fp32."
        ),
    ] = "auto"
