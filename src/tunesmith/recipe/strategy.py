"""The recipe's `strategy` part: how the work is spread over processes and devices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.core.extras import require_extra
from tunesmith.recipe.part import Part

Processes = Annotated[
    Literal["auto"] | Annotated[int, Field(ge=1)],
    Field(
        description="Processes on this machine: one for each GPU, or 2 without a GPU; on a Ray "
        "cluster one for each of its GPUs, or else of its nodes; under torchrun, srun or "
        "mpirun the launcher's number holds."
    ),
]
HangAfter = Annotated[
    float,
    Field(
        ge=1,
        description="Seconds after which a run ends whose ranks wait for one that does not go "
        "on; one micro-batch may not take longer.",
    ),
]


class SingleStrategy(Part):
    """One process."""

    type: Annotated[Literal["single"], Field(description="One process on one device.")] = "single"


class DdpStrategy(Part):
    """Every process holds the whole model and computes a part of each step's rows."""

    type: Annotated[
        Literal["ddp"], Field(description="The rows of a step divided over whole copies.")
    ] = "ddp"
    processes: Processes = "auto"
    hang_after_s: HangAfter = 600.0


class DeepSpeedStrategy(Part):
    """ZeRO: what every process would hold alike is spread over them, by DeepSpeed."""

    type: Annotated[
        Literal["deepspeed"],
        Field(description="As ddp, with the training's state spread over the processes."),
    ]
    config: Annotated[
        str | None,
        Field(
            min_length=1,
            description="A JSON file of DeepSpeed's own settings; what it and the recipe both "
            'say must be the same or "auto".',
        ),
    ] = None
    zero: Annotated[
        Literal[1, 2, 3],
        Field(
            description="What is spread: 1 the optimizer's state; 2 and the gradients; 3 and all "
            "weights."
        ),
    ] = 2
    offload: Annotated[
        Literal["cpu", "disk"] | None,
        Field(
            description="Keep what is spread in the host's memory, of use with GPUs only; or, with "
            "zero: 3, weights and the optimizer's state on a disk, of use where memory is short "
            "and the disk is fast."
        ),
    ] = None
    offload_path: Annotated[
        str | None,
        Field(
            min_length=1,
            description="For offload: disk, a folder on that disk, of this machine alone; the run "
            "makes a folder in it and removes it at its end.",
        ),
    ] = None
    processes: Processes = "auto"
    hang_after_s: HangAfter = 600.0


class FsdpStrategy(Part):
    """Every weight, gradient and moment spread over the processes, by torch's fully_shard."""

    type: Annotated[
        Literal["fsdp"], Field(description="As deepspeed with zero: 3, by torch itself.")
    ]
    checkpoints: Annotated[
        Literal["whole", "parts"],
        Field(
            description="How a checkpoint is written: whole, put together and written by process "
            "0; or in parts, each process its own rows, so that no process holds all of it."
        ),
    ] = "whole"
    offload: Annotated[
        Literal["cpu"] | None,
        Field(description="Keep what is spread in the host's memory; of use with GPUs only."),
    ] = None
    processes: Processes = "auto"
    hang_after_s: HangAfter = 600.0


Strategy = SingleStrategy | DdpStrategy | DeepSpeedStrategy | FsdpStrategy
StrategyPart = Annotated[Strategy, Field(discriminator="type")]
STRATEGY_TYPES = ("single", "ddp", "deepspeed", "fsdp")
STRATEGIES = (SingleStrategy, DdpStrategy, DeepSpeedStrategy, FsdpStrategy)


def has_own_masters(strategy: Strategy) -> bool:
    """Whether a strategy keeps fp32 copies of 16-bit weights itself, spread over the ranks."""
    return isinstance(strategy, DeepSpeedStrategy) and strategy.zero > 1


def spreads_weights(strategy: Strategy) -> bool:
    """Whether no rank holds the weights: a layer's are put together for its passes, and let go."""
    return isinstance(strategy, FsdpStrategy) or (
        isinstance(strategy, DeepSpeedStrategy) and strategy.zero == 3
    )


def require_engine(strategy: Strategy) -> None:
    """See to it that what a strategy needs is installed.

    Raises:
        MachineError: it is not.
    """
    if isinstance(strategy, DeepSpeedStrategy):
        where = "recipe: strategy.type: deepspeed"
        require_extra("deepspeed", where=where, otherwise="use strategy: ddp")
