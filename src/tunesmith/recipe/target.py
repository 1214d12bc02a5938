"""The recipe's `target` part: where a run happens, this machine or a cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.core.extras import require_extra
from tunesmith.recipe.part import Part


class LocalTarget(Part):
    """This machine."""

    type: Annotated[Literal["local"], Field(description="This machine.")] = "local"


class RayTarget(Part):
    """A Ray cluster: each of the strategy's processes is placed on one of its nodes."""

    type: Annotated[
        Literal["ray"], Field(description="A Ray cluster that this machine is a node of.")
    ] = "ray"
    address: Annotated[
        str | None,
        Field(
            min_length=1,
            description="host:port of the cluster; by default RAY_ADDRESS, or the cluster of this "
            "machine.",
        ),
    ] = None
    cores: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)],
        Field(
            description="Cores that each process reserves and computes with; auto: a node's, "
            "divided by its processes."
        ),
    ] = "auto"
    wait_s: Annotated[
        float,
        Field(ge=1, description="Seconds to wait until the cluster has room for all processes."),
    ] = 60.0
    storage: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Where the nodes share no disk: an object store through which the run "
            "goes, s3://bucket/prefix, gs://..., abfs://... or file:///folder.",
        ),
    ] = None
    storage_wait_s: Annotated[
        float,
        Field(
            ge=1,
            description="Seconds for which the store may fail during the run before it is ended.",
        ),
    ] = 300.0
    restarts: Annotated[
        int,
        Field(
            ge=0,
            description="How often the run goes on, on what is left, after a node was lost.",
        ),
    ] = 3


Target = LocalTarget | RayTarget
TargetPart = Annotated[Target, Field(discriminator="type")]
TARGETS = (LocalTarget, RayTarget)
TARGET_TYPES = ("local", "ray")


def require_platform(target: Target) -> None:
    """See to it that what a target needs is installed.

    Raises:
        MachineError: it is not.
    """
    if isinstance(target, RayTarget):
        require_extra("ray", where="recipe: target.type: ray", otherwise="use target: local")
