"""`tunesmith data`: every fault of a file, the tokens that a run would train, and the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.text import Text

from tunesmith.cli import output
from tunesmith.cli.columns import parse_columns
from tunesmith.cli.model_folder import model_folder
from tunesmith.cli.quantities import count_text, share_text
from tunesmith.core.errors import DataError
from tunesmith.data.pipeline import resolve_path
from tunesmith.data.render import Example, render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.show import Piece, show_example
from tunesmith.data.split import remove_duplicates
from tunesmith.data.stats import DataStats, Lengths, describe
from tunesmith.data.tokenizer import TextEncoder, Tokenizer, load_tokenizer
from tunesmith.data.validate import CheckedData, check_file, raise_faults
from tunesmith.models.catalog import CATALOG
from tunesmith.recipe.data import DataPart

DEFAULT_MODEL = next(iter(CATALOG))
TRAINED_STYLE = "black on green"
BAR_WIDTH = 40
# Around what is trained where there are no colours.
OPEN, CLOSE = "[[", "]]"

app = App(name="data", help="Check, show and count the rows of a data file.", help_epilogue="")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read the file; the same values as in a recipe's data part."""

    task: Annotated[
        Literal["chat", "completion"], Parameter(help="What the rows are for; by default chat.")
    ] = "chat"
    format: Annotated[
        Literal["auto", "messages", "sharegpt", "alpaca", "prompt-completion", "text"],
        Parameter(help="The form of a row; by default found from the columns."),
    ] = "auto"
    columns: Annotated[
        tuple[str, ...],
        Parameter(help="An own column name, e.g. prompt=question. May be repeated."),
    ] = ()
    system: Annotated[
        str | None, Parameter(help="A system message for conversations without one.")
    ] = None
    train_on: Annotated[
        Literal["assistant", "last-assistant", "all"],
        Parameter(help="Which turns are trained; by default the assistant's."),
    ] = "assistant"
    max_length: Annotated[
        int, Parameter(validator=Number(gte=2), help="The most tokens of a row.")
    ] = 1024
    limit: Annotated[
        int | None, Parameter(validator=Number(gte=1), help="Only the first so many rows.")
    ] = None

    def part(self, file: str) -> DataPart:
        """The recipe's part that says the same."""
        return DataPart(
            train=file,
            format=self.format,
            columns=parse_columns(self.columns),
            system=self.system or None,
            train_on=self.train_on,
            max_length=self.max_length,
            limit=self.limit,
        )


AS_READ = Reading()
ReadingOptions = Annotated[Reading, Parameter(name="*")]


@app.command(sort_key=0)
def check(file: str, /, *, reading: ReadingOptions = AS_READ, json: bool = False) -> int:
    """Report every fault of a file with its line. Needs no model.

    Parameters
    ----------
    file:
        The data file, or a built-in sample such as sample:support-desk.
    json:
        Print one JSON document.
    """
    checked = _check(file, reading)
    duplicates = remove_duplicates(checked.samples).duplicates
    if json:
        output.show_json(_document(file, checked, duplicates))
        return 0
    output.say(f"{file}: no faults", style="bold")
    output.show_pairs(
        {
            "rows": count_text(checked.rows_read),
            "form": checked.format or "",
            "duplicates": f"{count_text(duplicates)} (left out of a run)",
        }
    )
    for column, rows in checked.ignored_columns:
        output.say(f"  column {column} is not read ({count_text(rows)} rows have it)")
    for told in checked.notes:
        output.say(f"  note: {told.what} ({count_text(told.rows)} rows, first {told.first})")
    return 0


@app.command(sort_key=1)
def show(
    file: str,
    /,
    *,
    model: str = DEFAULT_MODEL,
    rows: Annotated[int, Parameter(validator=Number(gte=1))] = 3,
    reading: ReadingOptions = AS_READ,
    json: bool = False,
) -> int:
    """Show rows as the model sees them, with what is trained in colour (in a file: in [[ ]]).

    Parameters
    ----------
    file:
        The data file, or a built-in sample such as sample:support-desk.
    model:
        Whose template and tokens are used; by default the catalogue's small model.
    rows:
        How many rows; by default 3.
    json:
        Print one JSON document.
    """
    checked = _check(file, reading)
    tokenizer = load_tokenizer(model_folder(model))
    examples = _render(checked, rows, tokenizer, reading.part(file), reading.task)
    shown = [(example, show_example(example, tokenizer)) for example in examples]
    if json:
        output.show_json(
            {
                "file": file,
                "model": model,
                "rows": [_row_document(example, pieces) for example, pieces in shown],
            }
        )
        return 0
    for example, pieces in shown:
        total, trained = len(example.tokens), example.supervised_tokens
        output.say(f"{example.row_id}: {total} tokens, {trained} trained", style="bold")
        output.say(_coloured(pieces) if output.is_terminal() else bracketed(pieces))
        output.say()
    return 0


@app.command(sort_key=2)
def stats(
    file: str,
    /,
    *,
    model: str = DEFAULT_MODEL,
    reading: ReadingOptions = AS_READ,
    json: bool = False,
) -> int:
    """Count rows, duplicates, lengths in tokens, what is trained, and what would be cut.

    Parameters
    ----------
    file:
        The data file, or a built-in sample such as sample:support-desk.
    model:
        Whose template and tokens are used; by default the catalogue's small model.
    json:
        Print one JSON document.
    """
    checked = _check(file, reading)
    distinct = remove_duplicates(checked.samples)
    tokenizer = load_tokenizer(model_folder(model))
    numbers = describe(distinct.samples, tokenizer, reading.part(file), reading.task)
    if numbers.faults:
        raise DataError([fault.to_fault() for fault in numbers.faults])
    if json:
        document = _document(file, checked, distinct.duplicates)
        counts = {key: value for key, value in asdict(numbers).items() if key != "faults"}
        output.show_json({**document, "model": model, "distinct": counts})
        return 0
    output.say(f"{file}, as {model} sees it", style="bold")
    output.show_pairs(_counts(checked, numbers, distinct.duplicates))
    if numbers.lengths:
        _show_lengths(numbers.lengths)
    return 0


def bracketed(pieces: Sequence[Piece]) -> str:
    """The text with brackets around each stretch that is trained."""
    text, inside = "", False
    for piece in pieces:
        trained = piece.weight > 0
        if trained != inside:
            text += OPEN if trained else CLOSE
        text, inside = text + piece.text, trained
    return text + (CLOSE if inside else "")


def _check(file: str, reading: Reading) -> CheckedData:
    checked = check_file(resolve_path(file), reading.part(file), reading.task)
    raise_faults([checked])
    return checked


def _render(
    checked: CheckedData,
    rows: int,
    tokenizer: Tokenizer,
    part: DataPart,
    task: Literal["chat", "completion"],
) -> list[Example]:
    rendered = list(render_all(checked.samples[:rows], TextEncoder(tokenizer), part, task))
    faults = [one.to_fault() for one in rendered if isinstance(one, RowFault)]
    if faults:
        raise DataError(faults)
    return [one for each in rendered if not isinstance(each, RowFault) for one in each]


def _coloured(pieces: Sequence[Piece]) -> Text:
    """Each token in its place; trained ones stand out, and every second one a little less."""
    text = Text()
    for index, piece in enumerate(pieces):
        style = TRAINED_STYLE if piece.weight > 0 else "dim"
        text.append(output.clean(piece.text), style=f"{style} underline" if index % 2 else style)
    return text


def _counts(checked: CheckedData, numbers: DataStats, duplicates: int) -> dict[str, str]:
    supervised = share_text(numbers.supervised_tokens, numbers.tokens)
    counts = {
        "rows": count_text(checked.rows_read),
        "form": checked.format or "",
        "duplicates": count_text(duplicates),
        "tokens": count_text(numbers.tokens),
        "trained": f"{count_text(numbers.supervised_tokens)} ({supervised})",
        f"longer than {numbers.max_length}": f"{count_text(numbers.rows_too_long)} rows",
    }
    if numbers.rows_too_long:
        lost = count_text(numbers.lost_tokens)
        lost_trained = count_text(numbers.lost_supervised_tokens)
        counts["cutting them loses"] = f"{lost} tokens, {lost_trained} of them trained"
    if numbers.rows_left_without_supervised_tokens:
        counts["rows with nothing to train"] = count_text(
            numbers.rows_left_without_supervised_tokens
        )
    if numbers.rows_without_end_of_turn:
        counts["replies without a trained end"] = count_text(numbers.rows_without_end_of_turn)
    if numbers.rows_with_control_text:
        counts["rows with control text"] = count_text(numbers.rows_with_control_text)
    return counts


def _show_lengths(lengths: Lengths) -> None:
    output.say()
    output.say("Lengths in tokens", style="bold")
    output.say(
        f"  shortest {lengths.shortest}, median {lengths.median}, "
        f"95% up to {lengths.ninety_fifth}, longest {lengths.longest}"
    )
    most = max(bin.rows for bin in lengths.histogram)
    bars = {
        f"{bin.low}-{bin.high}": f"{'#' * -(-BAR_WIDTH * bin.rows // most)} {bin.rows}".strip()
        for bin in lengths.histogram
    }
    output.show_pairs(bars)


def _document(file: str, checked: CheckedData, duplicates: int) -> dict[str, Any]:
    return {
        "file": file,
        "path": str(Path(checked.file).absolute()),
        "format": checked.format,
        "rows": checked.rows_read,
        "duplicates": duplicates,
        "ignored_columns": dict(checked.ignored_columns),
        "notes": [asdict(told) for told in checked.notes],
    }


def _row_document(example: Example, pieces: Sequence[Piece]) -> dict[str, Any]:
    return {
        "row_id": example.row_id,
        "tokens": len(example.tokens),
        "supervised_tokens": example.supervised_tokens,
        "pieces": [asdict(piece) for piece in pieces],
    }
