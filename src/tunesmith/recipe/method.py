"""The recipe's `method` part: which numbers are trained. `method: lora` is short for the type."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunesmith.recipe.part import Part
from tunesmith.recipe.peft_method import ROWS, PeftMethod
from tunesmith.recipe.target_words import Targets, as_names, as_targets

Init = Literal["default", "pissa", "loftq"]


class LoraMethod(Part):
    """Low-rank adapters beside frozen linear layers."""

    type: Annotated[
        Literal["lora", "rslora", "dora"],
        Field(
            description=(
                "lora: low-rank adapters; rslora: scaled by alpha / sqrt(rank), for high ranks; "
                "dora: with a trained length for each output beside the direction. qlora (lora on "
                "model.base nf4), qdora, pissa, loftq and lora+ are short for what they stand for."
            )
        ),
    ] = "lora"
    rank: Annotated[int, Field(ge=1, description="The rank of each adapter.")] = 16
    alpha: Annotated[
        float,
        Field(gt=0, description="The adapter's output is scaled by alpha / rank (rslora: sqrt)."),
    ] = 32.0
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="The share of adapter inputs set to zero in training.")
    ] = 0.0
    targets: Annotated[
        Targets,
        BeforeValidator(as_targets),
        Field(
            description=(
                "Which linear layers: all-linear, attention, mlp, or a list of these, module names "
                "such as q_proj, patterns such as *.0.*_proj, and re: with a regular expression "
                "of the whole path."
            )
        ),
    ] = "all-linear"
    exclude_targets: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(as_names),
        Field(description="What to leave out of targets, in the same words; e.g. [*.0.*]."),
    ] = ()
    modules_to_save: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(as_names),
        Field(
            description=(
                "Modules that are trained whole beside the adapters and saved with them, by name: "
                "[embed_tokens, lm_head]. Tied ones stay one matrix."
            )
        ),
    ] = ()
    init: Annotated[
        Init,
        Field(
            description=(
                "Where adapters start. default: at nothing; pissa: at the principal part of each "
                "weight, which often learns faster; loftq: at what quantising took from the weight."
            )
        ),
    ] = "default"
    adapter: Annotated[
        str | None,
        Field(
            min_length=1,
            description=(
                "The folder of a LoRA adapter to go on from: its type, rank, alpha, dropout and "
                "targets hold."
            ),
        ),
    ] = None
    b_rate_factor: Annotated[
        float,
        Field(gt=0, description="The learning rate of B as a multiple of A's; LoRA+ uses 16."),
    ] = 1.0

    @property
    def scale(self) -> float:
        """The factor of the adapter's output (rslora: Kalajdzievski, 2023)."""
        return self.alpha / (math.sqrt(self.rank) if self.type == "rslora" else self.rank)


class FullMethod(Part):
    """All weights of the model."""

    type: Annotated[Literal["full"], Field(description="All weights.")] = "full"


METHOD_TYPES = ("lora", "rslora", "dora", "full", *ROWS)
Method = LoraMethod | FullMethod | PeftMethod
MethodPart = Annotated[Method, Field(discriminator="type")]
