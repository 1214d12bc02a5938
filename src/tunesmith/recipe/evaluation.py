"""The recipe's `evaluation` part: what is measured before and after, on the held-out rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunesmith.recipe.part import Part, one_or_several
from tunesmith.recipe.task import Task

Metric = Literal[
    "exact-match",
    "json-match",
    "valid-json",
    "numeric-match",
    "token-accuracy",
    "tool-call",
    "tune-valid",
    "tune-distance",
]
# Tokens in the cache at once while answers are written, if one answer does not need more. For a
# model of 135M parameters in bf16 these are 190 MB.
TOKENS_ANSWERED_AT_ONCE = 8192
# Scores of answers as texts, which the recipe asks for.
TEXT_METRICS: tuple[Metric, ...] = (
    "exact-match",
    "json-match",
    "valid-json",
    "numeric-match",
    "tool-call",
)
# Scores that come with a task, always measured; the first one is the task's main one.
OWN_METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro-f1", "micro-f1", "mcc"),
    "ner": ("entity-f1",),
    "qa": ("squad-f1", "squad-em"),
    "translation": ("bleu", "chrf"),
    "summarization": ("rouge-1", "rouge-2", "rouge-l"),
}


def own_metrics(task: Task) -> tuple[str, ...]:
    """Return the scores that come with a task."""
    own = OWN_METRICS.get(task.type, ())
    if task.type == "classification" and task.multi_label:
        return tuple(name for name in own if name != "mcc")  # of one class for each row
    return own


class EvaluationPart(Part):
    """What is measured."""

    before: Annotated[bool, Field(description="Measure before training.")] = True
    after: Annotated[bool, Field(description="Measure after training.")] = True
    prompts: Annotated[
        int, Field(ge=0, description="How many held-out prompts are answered side by side.")
    ] = 8
    max_new_tokens: Annotated[int, Field(ge=1, description="The most tokens of an answer.")] = 128
    temperature: Annotated[
        float,
        Field(
            ge=0,
            le=10,
            description=(
                "How freely answers are written: 0 takes the likeliest token each time, which is "
                "right where one answer is; what is to be new, such as music, then repeats itself "
                "without end, and 0.7 to 1 suits it. Draws depend on the row alone, with a fixed "
                "seed."
            ),
        ),
    ] = 0.0
    metrics: Annotated[
        tuple[Metric, ...],
        BeforeValidator(one_or_several),
        Field(
            description="Further scores of the answers as texts: exact-match, json-match, "
            "valid-json, numeric-match (the last number), token-accuracy, tool-call (the same "
            "function with the same arguments, or none; such a conversation is asked up to its "
            "last call); of music in ABC notation tune-valid and tune-distance (to the nearest "
            "tune that was trained). Those of the task come by themselves."
        ),
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
    probe: Annotated[
        bool,
        Field(
            description=(
                "Ask a fixed set of general questions, too, before and after: what the model "
                "forgets shows there. A model with a head writes nothing and is not asked."
            )
        ),
    ] = True
    trained_rows: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "How many of the rows that are trained are scored, too. They show what a test on "
                "trained rows would have shown, and are marked as such."
            ),
        ),
    ] = 0
    metric_rows: Annotated[
        int | None,
        Field(ge=1, description="How many of those are scored by their answers; by default all."),
    ] = None
