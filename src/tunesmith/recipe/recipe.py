"""The whole recipe: what is asked of a run, and nothing about how it went."""

from __future__ import annotations

from typing import Annotated, assert_never, cast

from pydantic import BeforeValidator, Field, model_validator

from tunesmith.recipe.data import DataPart, plain_columns
from tunesmith.recipe.evaluation import EvaluationPart
from tunesmith.recipe.method import FullMethod, LoraMethod, Method, MethodPart
from tunesmith.recipe.model import ModelPart
from tunesmith.recipe.part import Part
from tunesmith.recipe.peft_method import PeftMethod
from tunesmith.recipe.strategy import SingleStrategy, StrategyPart
from tunesmith.recipe.target import LocalTarget, TargetPart
from tunesmith.recipe.task import PreferenceTask, Task, TaskPart, expand_task, has_head
from tunesmith.recipe.tracking import TrackingPart
from tunesmith.recipe.training import TrainingPart

# The key that a part's shorthand stands for: `method: lora` is `method: {type: lora}`.
SHORTHANDS = {
    "model": "source",
    "task": "type",
    "method": "type",
    "strategy": "type",
    "target": "type",
    "tracking": "to",
}

# A head begins at random values, whatever the method does to the rest.
HEAD_LEARNING_RATE = 1e-3


def _expand(part: str) -> BeforeValidator:
    return BeforeValidator(lambda value: expand_shorthand(part, value))


class Recipe(Part):
    """What is asked. Only `model`, `task` and `data.train` are needed."""

    model: Annotated[ModelPart, _expand("model"), Field(description="The base model.")]
    task: Annotated[TaskPart, _expand("task"), Field(description="What the model is to learn.")]
    data: Annotated[DataPart, Field(description="What it learns from.")]
    method: Annotated[
        MethodPart, _expand("method"), Field(description="Which numbers are trained.")
    ] = LoraMethod()
    training: Annotated[TrainingPart, Field(description="How long and how fast.")] = TrainingPart()
    strategy: Annotated[
        StrategyPart, _expand("strategy"), Field(description="How the work is spread.")
    ] = SingleStrategy()
    target: Annotated[
        TargetPart, _expand("target"), Field(description="Where the run happens.")
    ] = LocalTarget()
    evaluation: Annotated[EvaluationPart, Field(description="What is measured.")] = EvaluationPart()
    tracking: Annotated[
        TrackingPart, _expand("tracking"), Field(description="Which trackers are told.")
    ] = TrackingPart()

    @model_validator(mode="after")
    def _trained_rows_are_asked(self) -> Recipe:
        if self.evaluation.trained_rows and isinstance(self.task, PreferenceTask):
            raise ValueError(
                "evaluation.trained_rows scores answers, and a preference has none to score: "
                "leave it out"
            )
        return self

    @property
    def learning_rate(self) -> float:
        """The learning rate that holds: the recipe's own, or the method's default."""
        return self.training.learning_rate or default_learning_rate(self.method, self.task)


def with_rates(recipe: Recipe) -> Recipe:
    """Return the recipe with the rates that hold written out."""
    training, rate = recipe.training, recipe.learning_rate
    rates: dict[str, float] = {"learning_rate": rate}
    if has_head(recipe.task):
        rates["head_learning_rate"] = training.head_learning_rate or max(rate, HEAD_LEARNING_RATE)
    return recipe.model_copy(update={"training": training.model_copy(update=rates)})


def default_learning_rate(method: Method, task: Task) -> float:
    """The method's rate for the task.

    Preferences take a tenth: their gradient does not shrink as a model gets better at its answers,
    and the rates in use are 5e-6 to 5e-5 for adapters and 5e-7 to 8e-6 for all weights.
    """
    rate = _default_rate(method)
    return rate / 10 if isinstance(task, PreferenceTask) else rate


def _default_rate(method: Method) -> float:
    """Adapters start at zero and bear ten times the rate of weights that are trained already."""
    match method:
        case LoraMethod():
            return 2e-4
        case FullMethod():
            return 2e-5
        case PeftMethod():
            return method.row.learning_rate
        case _:
            assert_never(method)


def expand_shorthand(part: str, value: object) -> object:
    """Write out a part that was given as one word, a method without its type, a column's key."""
    if part == "task":
        return expand_task(value)
    if isinstance(value, str) and part in SHORTHANDS:
        return {SHORTHANDS[part]: value}
    if part == "tracking" and isinstance(value, list):
        return {"to": value}
    if part == "data" and isinstance(value, dict) and "columns" in value:
        given = cast("dict[str, object]", value)
        return {**given, "columns": plain_columns(given["columns"])}
    if part == "data.columns":
        return plain_columns(value)
    if part == "method" and isinstance(value, dict) and "type" not in value:
        return {"type": "lora", **cast(dict[str, object], value)}
    return value
