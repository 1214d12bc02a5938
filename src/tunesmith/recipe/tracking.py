"""The recipe's `tracking` part: in which trackers a run's numbers are shown while it goes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunesmith.recipe.part import Part, one_or_several

TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class TrackingPart(Part):
    """Which trackers are told. None of them can fail or slow the run."""

    to: Annotated[
        tuple[TrackerName, ...],
        BeforeValidator(one_or_several),
        Field(
            description="tensorboard, mlflow, wandb (offline) or trackio, one or several; each is "
            "a process beside the run, which goes on whatever becomes of it."
        ),
    ] = ()
    project: Annotated[
        str, Field(min_length=1, description="The project or experiment the run is shown in.")
    ] = "tunesmith"
    wait_s: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            description="Seconds that trackers have at the end of the run to take what is left; "
            "then they are ended.",
        ),
    ] = 20.0
