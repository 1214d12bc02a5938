"""The recipe's `evaluation` part: what is measured before and after, on the held-out rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunesmith.recipe.part import Part

Metric = Literal["exact-match", "json-match", "token-accuracy"]


def _as_tuple(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class EvaluationPart(Part):
    """What is measured."""

    before: Annotated[bool, Field(description="Measure before training.")] = True
    after: Annotated[bool, Field(description="Measure after training.")] = True
    prompts: Annotated[
        int, Field(ge=0, description="How many held-out prompts are answered side by side.")
    ] = 8
    max_new_tokens: Annotated[int, Field(ge=1, description="The most tokens of an answer.")] = 128
    metrics: Annotated[
        tuple[Metric, ...],
        BeforeValidator(_as_tuple),
        Field(description="Scores of the answers: exact-match, json-match, token-accuracy."),
    ] = ()
    rows: Annotated[
        int,
        Field(
            ge=1,
            description=(
                "The most held-out rows that are measured, spread evenly over all of them; more "
                "make a large file's evaluation longer than its training."
            ),
        ),
    ] = 2000
    metric_rows: Annotated[
        int | None,
        Field(ge=1, description="How many of those are scored by their answers; by default all."),
    ] = None
