"""The recipe's `data` part: which rows, in which form, and what of them is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tunesmith.recipe.part import Part
from tunesmith.recipe.share import Share, parse_share

SAMPLE_PREFIX = "sample:"


class ColumnMap(Part):
    """The file's own names for the columns that a format knows under another name."""

    prompt: Annotated[str | None, Field(min_length=1, description="The prompt's column.")] = None
    completion: Annotated[
        str | None, Field(min_length=1, description="The completion's column.")
    ] = None
    instruction: Annotated[
        str | None, Field(min_length=1, description="The instruction's column.")
    ] = None
    input: Annotated[
        str | None, Field(min_length=1, description="The column of the instruction's input.")
    ] = None
    output: Annotated[str | None, Field(min_length=1, description="The answer's column.")] = None
    text: Annotated[str | None, Field(min_length=1, description="The plain text's column.")] = None
    messages: Annotated[
        str | None, Field(min_length=1, description="The column of the list of messages.")
    ] = None


def _refuse_all_or_nothing(value: Share | str) -> Share | str:
    if isinstance(value, Share) and not 0 < value.fraction < 1:
        raise ValueError(f"{value} leaves no rows on one side")
    return value


class DataPart(Part):
    """The rows to learn from and the rows held out."""

    train: Annotated[
        str,
        Field(
            min_length=1,
            description="The file of training rows, or a built-in one such as sample:support-desk.",
        ),
    ]
    validation: Annotated[
        Share | str,
        BeforeValidator(parse_share),
        AfterValidator(_refuse_all_or_nothing),
        Field(
            description=(
                "A file of held-out rows, or a share such as 10% split off by a stable hash after "
                "duplicates are removed."
            ),
        ),
    ] = Share(0.1)
    format: Annotated[
        Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "text"],
        Field(description="The form of a row; auto finds it from the columns."),
    ] = "auto"
    columns: Annotated[
        ColumnMap | None,
        Field(description="Own column names, e.g. {prompt: question, completion: answer}."),
    ] = None
    system: Annotated[
        str | None,
        Field(
            min_length=1, description="A system message for conversations that do not bring one."
        ),
    ] = None
    train_on: Annotated[
        Literal["assistant", "last-assistant", "all"],
        Field(description="Which turns are trained."),
    ] = "assistant"
    max_length: Annotated[int, Field(ge=2, description="The most tokens of a row.")] = 1024
    overflow: Annotated[
        Literal["error", "drop", "truncate", "chunk"],
        Field(
            description=(
                "What happens to a row that is too long; always counted. chunk: a plain text "
                "becomes several examples and loses nothing."
            ),
        ),
    ] = "error"
    limit: Annotated[int | None, Field(ge=1, description="Only the first so many rows.")] = None
    test: Annotated[
        str | None,
        Field(
            min_length=1,
            description=(
                "A file of rows for a last test: never trained, only held against the others for "
                "rows that are in both."
            ),
        ),
    ] = None
    on_bad_row: Annotated[
        Literal["error", "drop"],
        Field(
            description=(
                "What happens to a row with a fault: all faults are an error, or the row is left "
                "out, counted, and listed in the run folder."
            ),
        ),
    ] = "error"
    turn_order: Annotated[
        Literal["strict", "merge"],
        Field(
            description=(
                "Conversations whose turns do not alternate: a fault, or neighbours of one role "
                "are joined with a blank line."
            ),
        ),
    ] = "strict"
    system_role: Annotated[
        Literal["keep", "fold", "drop"],
        Field(
            description=(
                "A system message that the chat template refuses: an error, put at the start of "
                "the first user message, or left out."
            ),
        ),
    ] = "keep"
    unstable_template: Annotated[
        Literal["split", "error"],
        Field(
            description=(
                "A chat template that prints earlier turns otherwise than they were served: the "
                "row becomes one example a reply, or an error."
            ),
        ),
    ] = "split"
    end_token: Annotated[
        bool,
        Field(
            description=(
                "Whether the end token closes a prompt with its completion, and a plain text."
            )
        ),
    ] = True
    documents: Annotated[
        Literal["auto", "line", "block", "file"],
        Field(
            description=(
                "What one row of a text file is: a line, a block up to a blank line, or the file. "
                "auto: lines of .txt, blocks of .abc."
            ),
        ),
    ] = "auto"
    rows_at: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Where the list of rows is in a JSON object, e.g. data or result.rows.",
        ),
    ] = None
