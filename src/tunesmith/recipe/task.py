"""The recipe's `task` part: what the model is to learn. `task: chat` is short for the type."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.recipe.part import Part


class TaskPart(Part):
    """What the model is to learn."""

    type: Annotated[
        Literal["chat", "completion"],
        Field(
            description=(
                "chat: answer in the model's own chat template; completion: go on from a prompt."
            )
        ),
    ]
