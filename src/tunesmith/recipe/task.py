"""The recipe's `task` part: what the model is to learn. `task: chat` is short for the type.

`task: dpo` (or orpo, simpo, kto) is short for the preference task with this loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tunesmith.recipe.part import Part

PreferenceLoss = Literal["dpo", "orpo", "simpo", "kto"]

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


class ChatTask(Part):
    """To answer, or to go on from a text."""

    type: Annotated[
        Literal["chat", "completion"],
        Field(
            description=(
                "chat: answer in the model's own chat template; completion: go on from a prompt."
            )
        ),
    ]


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


TaskPart = Annotated[ChatTask | PreferenceTask, Field(discriminator="type")]


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
