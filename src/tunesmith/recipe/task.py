"""The recipe's `task` part: what the model is to learn. `task: chat` is short for the type.

`task: dpo` (or orpo, simpo, kto) is short for the preference task with this loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeGuard, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tunesmith.recipe.part import Part

PreferenceLoss = Literal["dpo", "orpo", "simpo", "kto"]
# What rows are read for: the recipe's tasks, and those that are learned by a head of their own.
TaskName = Literal[
    "chat",
    "completion",
    "preference",
    "translation",
    "summarization",
    "classification",
    "ner",
    "qa",
    "classification-head",
    "ner-head",
    "ner-head-causal",
    "qa-head",
]

# The options of each loss with their defaults. DPO: Rafailov et al. (2023); SimPO: Meng et al.
# (2024) use beta from 2 to 10 and gamma from 0.5 to 1.6; ORPO: Hong et al. (2024); KTO: Ethayarajh
# et al. (2024).
LOSS_OPTIONS: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.1, "length_normalized": False, "label_smoothing": 0.0},
    "orpo": {"odds_weight": 0.1},
    "simpo": {"beta": 2.0, "gamma": 0.5},
    "kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
}


class ForeignOptionError(ValueError):
    """An option that belongs to another loss; `fix` says what to write."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.fix = fix


class WrittenTask(Part):
    """To write a text: an answer, what follows, the same in another language, or in short."""

    type: Annotated[
        Literal["chat", "completion", "translation", "summarization"],
        Field(
            description=(
                "chat: answer in the model's own chat template; completion: go on from a prompt; "
                "translation, summarization: chat about texts, scored as such."
            )
        ),
    ]


class ClassificationTask(Part):
    """To find the class of a text or of a pair of texts, or all of its classes."""

    type: Annotated[
        Literal["classification"],
        Field(description="Find the class of a text or a pair, or all of its classes."),
    ]
    head: Annotated[
        bool,
        Field(
            description="true: a layer of its own on the model gives a number for each class; "
            "false: the label is written as a chat answer, and chosen among the labels.",
        ),
    ] = True
    labels: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=2,
            description="The classes, in the head's order; by default those of the training rows, "
            "sorted.",
        ),
    ] = None
    multi_label: Annotated[
        bool, Field(description="A text has any number of classes (a list in each row).")
    ] = False


class NerTask(Part):
    """To find named entities."""

    type: Annotated[Literal["ner"], Field(description="Find the named entities of a text.")]
    head: Annotated[
        bool,
        Field(
            description="true: a layer of its own gives each word its tag; false: the entities are "
            "written as a chat answer, and looked up in the text.",
        ),
    ] = True
    labels: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="The types of entities; by default those of the training rows, sorted.",
        ),
    ] = None


class QaTask(Part):
    """To answer a question with words of a text."""

    type: Annotated[
        Literal["qa"], Field(description="Answer a question with words of a given text.")
    ]
    head: Annotated[
        bool,
        Field(
            description="true: a layer of its own says where the answer begins and ends; false: "
            "the answer is written.",
        ),
    ] = False


class PreferenceTask(Part):
    """To prefer better answers to worse ones. The options of other losses are none."""

    type: Annotated[
        Literal["preference"],
        Field(description="Learn from pairs of a chosen and a rejected answer, or from ratings."),
    ]
    loss: Annotated[
        PreferenceLoss,
        Field(
            description=(
                "dpo, simpo, orpo: from pairs; kto: from single answers that were rated good or "
                "bad, or from pairs as one of each."
            )
        ),
    ] = "dpo"
    beta: Annotated[
        float | None,
        Field(
            gt=0,
            description=(
                "dpo, kto: how closely the model is held to what it was (default 0.1); simpo: the "
                "scale of its reward (default 2.0)."
            ),
        ),
    ] = None
    length_normalized: Annotated[
        bool | None,
        Field(description="dpo: divide each answer's log-ratio by its tokens (default false)."),
    ] = None
    label_smoothing: Annotated[
        float | None,
        Field(
            ge=0, lt=0.5, description="dpo: the share of pairs that may be labelled the wrong way "
            "round (default 0).",
        ),
    ] = None  # fmt: skip
    gamma: Annotated[
        float | None,
        Field(
            ge=0,
            description="simpo: the margin by which the chosen answer is to win (default 0.5).",
        ),
    ] = None
    odds_weight: Annotated[
        float | None,
        Field(
            gt=0,
            description="orpo: the weight of the odds ratio beside the chosen answer's own loss, "
            "lambda in the paper (default 0.1).",
        ),
    ] = None
    desirable_weight: Annotated[
        float | None, Field(gt=0, description="kto: the weight of good answers (default 1).")
    ] = None
    undesirable_weight: Annotated[
        float | None, Field(gt=0, description="kto: the weight of bad answers (default 1).")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: object) -> object:
        """Write out the defaults of the loss that is asked for."""
        if not isinstance(values, Mapping):
            return values
        given = cast("Mapping[str, Any]", values)
        loss = given.get("loss", "dpo")
        options = LOSS_OPTIONS.get(loss, {}) if isinstance(loss, str) else {}
        return {**options, **given}

    @field_validator(*dict.fromkeys(key for keys in LOSS_OPTIONS.values() for key in keys))
    @classmethod
    def _belongs(cls, value: object, info: ValidationInfo) -> object:
        loss, name = info.data.get("loss"), str(info.field_name)
        if value is None or loss is None or name in LOSS_OPTIONS[loss]:
            return value
        owners = [owner for owner, keys in LOSS_OPTIONS.items() if name in keys]
        raise ForeignOptionError(
            f"is an option of {' and '.join(owners)}, and the loss is {loss}",
            f"remove {name}, or use task.loss: {owners[0]}",
        )


HeadedTask = ClassificationTask | NerTask | QaTask
Task = WrittenTask | HeadedTask | PreferenceTask
TaskPart = Annotated[Task, Field(discriminator="type")]


def recipe_word(rows_are_for: TaskName) -> str:
    """Return the recipe's word for a task, whether a head learns it or not."""
    return rows_are_for.partition("-head")[0]


def rows_for(task: Task) -> TaskName:
    """Return what rows are read for: the task, and whether a head learns it."""
    return cast("TaskName", f"{task.type}-head") if has_head(task) else task.type


def has_head(task: Task) -> TypeGuard[HeadedTask]:
    """Say whether the task is learned by a layer of its own in place of the model's output."""
    return isinstance(task, HeadedTask) and task.head


def expand_task(value: object) -> object:
    """Write out a loss that was given as the task: `dpo` is the preference task with this loss."""
    if isinstance(value, str):
        value = {"type": value}
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, object]", value)
    word = given.get("type")
    if word in LOSS_OPTIONS and given.get("loss", word) == word:
        return {**given, "type": "preference", "loss": word}
    return given
