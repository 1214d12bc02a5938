"""The recipe's `model` part: which weights to start from. `model: NAME` is short for the source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesmith.recipe.part import Part

# Templates that come with Tunesmith.
TEMPLATES = ("chatml",)
BaseForm = Literal["int8", "nf4", "fp4"]


class SpecialTokens(Part):
    """Tokens of the model's vocabulary that take the place of its own special tokens."""

    bos: Annotated[str | None, Field(min_length=1, description="The token that begins a text.")] = (
        None
    )
    eos: Annotated[
        str | None, Field(min_length=1, description="The token that ends an answer or a text.")
    ] = None
    pad: Annotated[
        str | None, Field(min_length=1, description="The token that fills up a batch.")
    ] = None

    @property
    def given(self) -> dict[str, str]:
        """The tokens that are set, by name."""
        named = {"bos": self.bos, "eos": self.eos, "pad": self.pad}
        return {name: token for name, token in named.items() if token is not None}


class ModelPart(Part):
    """The base model."""

    source: Annotated[
        str,
        Field(
            min_length=1,
            description="A catalogue name, a hub id, a folder, or a GGUF file.",
        ),
    ]
    revision: Annotated[
        str | None,
        Field(min_length=1, description="The hub revision: a commit, tag or branch."),
    ] = None
    dtype: Annotated[
        Literal["auto", "fp32", "bf16"],
        Field(
            description=(
                "What is computed in, and how the weights are kept; auto: bf16 where that is fast, "
                "else fp32."
            )
        ),
    ] = "auto"
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        Field(description="What is computed on; auto: a CUDA device where there is one."),
    ] = "auto"
    base: Annotated[
        BaseForm | None,
        Field(
            description=(
                "Frozen linear layers kept in fewer bits: int8, nf4 or fp4. It saves memory and "
                "costs some speed and exactness; nf4 is what QLoRA uses."
            )
        ),
    ] = None
    double_quant: Annotated[
        bool, Field(description="Whether the scales of a 4-bit base are quantised, too.")
    ] = True
    special_tokens: Annotated[
        SpecialTokens | None,
        Field(
            description=(
                "Other special tokens than the model's own, e.g. {eos: <|eot_id|>}; they are saved "
                "with what is trained."
            )
        ),
    ] = None

    chat_template: Annotated[
        str | None,
        Field(
            min_length=1,
            description=(
                "A chat template in place of the model's own: chatml (which prints tools and their "
                "calls, too), a file with a Jinja template, or its text. It is saved with what is "
                "trained. Its marks, such as <|im_end|>, should be tokens of the model."
            ),
        ),
    ] = None

    @property
    def token_overrides(self) -> dict[str, str]:
        """The special tokens that are set, by name."""
        return self.special_tokens.given if self.special_tokens else {}
