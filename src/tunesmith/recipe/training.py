"""The recipe's `training` part: how long, how fast, in which portions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunesmith.recipe.part import Part
from tunesmith.recipe.share import Share, parse_share

Beta = Annotated[float, Field(ge=0, lt=1)]
OptimizerName = Literal["adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor"]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class TrainingPart(Part):
    """The optimiser's work."""

    epochs: Annotated[
        float, Field(gt=0, description="Passes over the training rows; parts of one are allowed.")
    ] = 3.0
    max_steps: Annotated[
        int | None, Field(ge=1, description="Optimiser steps; takes the place of epochs.")
    ] = None
    learning_rate: Annotated[
        float | None,
        Field(
            gt=0, le=1, description="The highest learning rate; by default 2e-4 lora, 2e-5 full."
        ),
    ] = None
    head_learning_rate: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="The highest learning rate of a task's head, which is new and bears more "
            "than weights that are trained already; by default 1e-3, or learning_rate where that "
            "is higher.",
        ),
    ] = None
    tokens_per_step: Annotated[
        int,
        Field(
            ge=1,
            description="Tokens that make one optimiser step, over as many micro-batches as it "
            "takes.",
        ),
    ] = 8192
    micro_batch_tokens: Annotated[
        int, Field(ge=1, description="Tokens that are in memory at once; fewer need less memory.")
    ] = 2048
    schedule: Annotated[
        Literal["cosine", "linear", "constant"],
        Field(description="How the learning rate goes on after the warm-up."),
    ] = "cosine"
    warmup: Annotated[
        Share | Annotated[int, Field(ge=0)],
        BeforeValidator(parse_share),
        Field(description="The rise to the highest learning rate: a share of the steps, or steps."),
    ] = Share(0.03)
    optimizer: Annotated[
        OptimizerName,
        Field(
            description="What is kept a trained value: adamw 8 bytes, adamw-8bit 2, adafactor "
            "next to none; paged-adamw-8bit needs a CUDA device."
        ),
    ] = "adamw"
    activation_checkpointing: Annotated[
        Literal["auto"] | bool,
        Field(
            description="Compute each layer again in the backward pass instead of keeping it: "
            "less memory, about a third more time; auto does so where the run would not fit "
            "otherwise."
        ),
    ] = "auto"
    compile_layers: Annotated[
        bool,
        Field(
            description="Whether torch.compile makes one function of each layer for training: less "
            "memory traffic on a GPU, and a wait of a minute or so at the first steps. It needs a "
            "C++ compiler, on a GPU triton, too."
        ),
    ] = False
    weight_decay: Annotated[
        float,
        Field(
            ge=0,
            description="Weight decay of matrices; norms and biases have none. On an adapter it "
            "pulls towards the base model.",
        ),
    ] = 0.0
    betas: Annotated[
        tuple[Beta, Beta],
        BeforeValidator(_as_tuple),
        Field(description="AdamW's two averaging rates; adafactor has none."),
    ] = (0.9, 0.999)
    epsilon: Annotated[
        float, Field(gt=0, description="AdamW's epsilon; adafactor has its own.")
    ] = 1e-8
    max_gradient_norm: Annotated[
        float, Field(gt=0, description="Longer gradients are cut to this norm.")
    ] = 1.0
    seed: Annotated[
        int, Field(ge=0, lt=2**63, description="Decides the order of rows and the first weights.")
    ] = 0
    checkpoint_every: Annotated[
        int | None, Field(ge=1, description="Steps between checkpoints; by default a fifth.")
    ] = None
    keep_checkpoints: Annotated[
        int, Field(ge=1, description="How many checkpoints stay; the best and the newest do.")
    ] = 2
    log_every: Annotated[int, Field(ge=1, description="Steps between progress reports.")] = 1
    evaluate_every: Annotated[
        int | None, Field(ge=1, description="Steps between held-out evaluations; by default none.")
    ] = None
