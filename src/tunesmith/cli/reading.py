"""How the data commands are told to read a file: the words of a recipe's data part as options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith.cli.columns import parse_columns
from tunesmith.core.errors import Fault, UserError
from tunesmith.recipe.data import DataPart, FormatWord
from tunesmith.recipe.faults import describe_value
from tunesmith.recipe.model import SpecialTokens
from tunesmith.recipe.template_file import read_template


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read the file; the same values as in a recipe's data part."""

    task: Annotated[
        Literal["chat", "completion", "preference"] | None,
        Parameter(help="What the rows are for; by default what their form serves."),
    ] = None
    format: Annotated[
        FormatWord, Parameter(help="The form of a row; by default found from the columns.")
    ] = "auto"
    columns: Annotated[
        tuple[str, ...],
        Parameter(help="An own column name, e.g. prompt=question; repeated for each column."),
    ] = ()
    system: Annotated[
        str | None, Parameter(help="A system message for conversations without one.")
    ] = None
    train_on: Annotated[
        Literal["assistant", "last-assistant", "all"],
        Parameter(help="Which turns are trained; by default the assistant's."),
    ] = "assistant"
    max_length: Annotated[
        int, Parameter(validator=Number(gte=2), help="The most tokens of a row; by default 1024.")
    ] = 1024
    overflow: Annotated[
        Literal["error", "drop", "truncate", "chunk"],
        Parameter(help="What a run would do with longer rows; by default error."),
    ] = "error"
    limit: Annotated[
        int | None, Parameter(validator=Number(gte=1), help="Only the first so many rows.")
    ] = None
    on_bad_row: Annotated[
        Literal["error", "drop"],
        Parameter(help="Report bad rows, or leave them out; by default error."),
    ] = "error"
    turn_order: Annotated[
        Literal["strict", "merge"],
        Parameter(help="Refuse turns that do not alternate, or join neighbours of one role."),
    ] = "strict"
    system_role: Annotated[
        Literal["keep", "fold", "drop"],
        Parameter(help="A system message that the template refuses: an error, or as told."),
    ] = "keep"
    unstable_template: Annotated[
        Literal["split", "error"],
        Parameter(help="Rows whose earlier turns the template prints otherwise later."),
    ] = "split"
    end_token: Annotated[
        bool,
        Parameter(
            negative="--no-end-token",
            help="Whether the end token closes a completion and a plain text.",
        ),
    ] = True
    documents: Annotated[
        Literal["auto", "line", "block", "file"],
        Parameter(help="What one row of a text file is; by default by the name of the file."),
    ] = "auto"
    rows_at: Annotated[
        str | None, Parameter(help="Where the list of rows is in a JSON object, e.g. result.rows.")
    ] = None

    def part(self, file: str, **more: str | None) -> DataPart:
        """The recipe's part that says the same."""
        words = {"train": file, **self._words(), **{key: one for key, one in more.items() if one}}
        try:
            return DataPart.model_validate(words)
        except ValidationError as error:
            raise _wrong_option(error) from error

    def _words(self) -> dict[str, object]:
        return {
            "format": self.format,
            "columns": parse_columns(self.columns),
            "system": self.system or None,
            "train_on": self.train_on,
            "max_length": self.max_length,
            "overflow": self.overflow,
            "limit": self.limit,
            "on_bad_row": self.on_bad_row,
            "turn_order": self.turn_order,
            "system_role": self.system_role,
            "unstable_template": self.unstable_template,
            "end_token": self.end_token,
            "documents": self.documents,
            "rows_at": self.rows_at,
        }


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Other tokens or another template than the model's own, as in a recipe's model part."""

    bos: Annotated[str | None, Parameter(help="Another token that begins a text.")] = None
    eos: Annotated[str | None, Parameter(help="Another token that ends an answer.")] = None
    pad: Annotated[str | None, Parameter(help="Another token that fills up a batch.")] = None
    chat_template: Annotated[
        str | None, Parameter(help="Another chat template: chatml, or a file of a Jinja template.")
    ] = None

    @property
    def given(self) -> dict[str, str]:
        """The tokens that are set, by name."""
        return SpecialTokens(bos=self.bos, eos=self.eos, pad=self.pad).given

    @property
    def template(self) -> str | None:
        """The template that is set: its word, or the text of its file."""
        if self.chat_template is None:
            return None
        return read_template(self.chat_template, Path.cwd(), where="--chat-template")


AS_READ = Reading()
AS_IN_MODEL = Tokens()
ReadingOptions = Annotated[Reading, Parameter(name="*")]
TokenOptions = Annotated[Tokens, Parameter(name="*")]
_FIXES = {
    "train": "name a file, a folder, a pattern or a sample",
    "validation": "write a share such as 10%, or the path of a file",
}


def _wrong_option(error: ValidationError) -> UserError:
    """What the recipe's part refuses, told in the words of the command line."""
    return UserError([_fault(one) for one in error.errors()], code="invalid_command")


def _fault(detail: ErrorDetails) -> Fault:
    word = str(detail["loc"][0])
    option = "FILE" if word == "train" else f"--{word.replace('_', '-')}"
    found, fix = describe_value(detail, option)
    value = repr(detail["input"]) if word == "train" else detail["input"]
    fix = _FIXES.get(word) or fix or "see --help for what it may be"
    return Fault(found=found, where=f"{option} {value}", fix=fix)
