"""`tunesmith data`: every fault of a file, the tokens that a run would train, and the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.text import Text

from tunesmith.cli import output
from tunesmith.cli.check_view import describe_check, show_check
from tunesmith.cli.looked_at import look_at
from tunesmith.cli.quantities import count_text
from tunesmith.cli.reading import AS_IN_MODEL, AS_READ, ReadingOptions, TokenOptions
from tunesmith.cli.xray import show_xray
from tunesmith.core.errors import DataError, Fault, UserError
from tunesmith.core.run_dir import write_bytes
from tunesmith.data.examine import examine, page_of
from tunesmith.data.formats import TaskName
from tunesmith.data.pipeline import check_data, lay_out
from tunesmith.data.prepared.prepare import prepare_file
from tunesmith.data.render import Example, render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.show import Piece, show_example
from tunesmith.data.tokenizer import Tokenizer, encoder_of
from tunesmith.data.validate import ROWS_TO_JUDGE_BY, check_file, raise_faults, raise_tally
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.task import rows_for

TRAINED_STYLE = "black on green"
# Around what is trained where there are no colours.
OPEN, CLOSE = "[[", "]]"
STOPS_A_RUN = UserError.exit_code

app = App(name="data", help="Check, show and count the rows of a data file.", help_epilogue="")


@app.command(sort_key=0)
def check(file: str, /, *, reading: ReadingOptions = AS_READ, json: bool = False) -> int:
    """Report every fault of a file with its line. Needs no model.

    The options are the words of a recipe's data part: --on-bad-row is data.on_bad_row. What a
    message says of data.columns {prompt: question} is here --columns prompt=question.

    Parameters
    ----------
    file:
        What data.train names: a file, a folder, a pattern, or a sample such as sample:support-desk.
        Or a recipe (.yaml), whose data, task and model are looked at.
    json:
        Print one JSON document.
    """
    looked_at = look_at(file, reading)
    if looked_at.recipe is not None:
        files = check_data(looked_at.part, rows_for(looked_at.recipe.task), tell=output.note)
    else:
        files = (prepare_file(file, looked_at.part, looked_at.task, None, tell=output.note),)
        raise_tally(files[0].tally, file=file, on_bad_row=reading.on_bad_row)
    if json:
        documents = [describe_check(prepared) for prepared in files]
        output.show_json({"files": documents} if looked_at.recipe else documents[0])
        return 0
    for prepared in files:
        show_check(prepared)
    return 0


@app.command(sort_key=1)
def show(
    file: str,
    /,
    *,
    model: str | None = None,
    rows: Annotated[int, Parameter(validator=Number(gte=1))] = 3,
    reading: ReadingOptions = AS_READ,
    tokens: TokenOptions = AS_IN_MODEL,
    json: bool = False,
) -> int:
    """Show rows as the model sees them, with what is trained in colour (in a file: in [[ ]]).

    Parameters
    ----------
    file:
        What data.train names: a file, a folder, a pattern, or a sample such as sample:support-desk.
        Or a recipe (.yaml), whose data, task and model are looked at.
    model:
        Whose template and tokens are used; by default the catalogue's small model.
    rows:
        How many of the first rows; by default 3.
    json:
        Print one JSON document.
    """
    looked_at = look_at(file, reading, tokens, model=model)
    source = looked_at.source()
    tokenizer = source.tokenizer
    examples = first_examples(looked_at.part, looked_at.task_for(source), tokenizer, rows)
    shown = [(example, show_example(example, tokenizer)) for example in examples]
    if json:
        output.show_json(
            {
                "file": file,
                "model": looked_at.model,
                "rows": [_row_document(example, pieces) for example, pieces in shown],
            }
        )
        return 0
    for example, pieces in shown:
        output.say(heading(example, looked_at.part.max_length), style="bold")
        output.say(_coloured(pieces) if output.is_terminal() else bracketed(pieces))
        output.say()
    return 0


@app.command(sort_key=2)
def stats(
    file: str,
    /,
    *,
    model: str | None = None,
    validation: str | None = None,
    test: str | None = None,
    html: Path | None = None,
    reading: ReadingOptions = AS_READ,
    tokens: TokenOptions = AS_IN_MODEL,
    json: bool = False,
) -> int:
    """X-ray a file: what a run would train, cut and leave out, and what is in it twice.

    Its exit code is 2 where a run would stop.

    Parameters
    ----------
    file:
        What data.train names: a file, a folder, a pattern, or a sample such as sample:support-desk.
        Or a recipe (.yaml), whose data, task and model are looked at.
    model:
        Whose template and tokens are used; by default the catalogue's small model.
    validation:
        A file of held-out rows, or a share that is split off; by default 10%, as in a recipe.
    test:
        A file of rows for a last test, to be held against the others.
    html:
        Write the X-ray to this file as a page, too, with the first rows token by token.
    json:
        Print one JSON document.
    """
    looked_at = look_at(file, reading, tokens, model=model, validation=validation, test=test)
    if html is not None:
        require_place(html)
    source = looked_at.source()
    data = lay_out(looked_at.part, looked_at.task_for(source), source, tell=output.note)
    xray = examine(data, source, model=looked_at.model)
    if html is not None:
        write_bytes(html, page_of(xray, data, source).encode())
    if json:
        output.show_json({"file": file, **xray.as_json()})
    else:
        show_xray(xray)
        if html is not None:
            output.say(f"\nthe page: {html}")
    return STOPS_A_RUN if xray.errors else 0


def require_place(page: Path) -> None:
    """Raise an error where no page can be written, before the work for it is done."""
    if page.is_dir():
        fix = f"name a file in it, such as {page / 'page.html'}"
        raise UserError(Fault(found="a folder, where a page should be", where=str(page), fix=fix))
    if not page.parent.is_dir():
        fix = "make it, or name a file in another folder"
        raise UserError(Fault(found="there is no such folder", where=str(page.parent), fix=fix))


def heading(example: Example, max_length: int) -> str:
    """Name an example, and say how long it is."""
    part = f", {example.part}" if example.part else ""
    total = len(example.tokens)
    tokens = "1 token" if total == 1 else f"{count_text(total)} tokens"
    over = f", longer than {count_text(max_length)}" if total > max_length else ""
    trained = count_text(example.supervised_tokens)
    return f"{example.row_id}{part}: {tokens}, {trained} trained{over}"


def bracketed(pieces: Sequence[Piece]) -> str:
    """The text with brackets around each stretch that is trained."""
    text, inside = "", False
    for piece in pieces:
        trained = piece.weight > 0
        if trained != inside:
            text += OPEN if trained else CLOSE
        text, inside = text + piece.text, trained
    return text + (CLOSE if inside else "")


def first_examples(
    part: DataPart, task: TaskName, tokenizer: Tokenizer, num_rows: int
) -> list[Example]:
    """Render the first rows of a file; those behind them are read only to stand in for bad ones."""
    is_dropping = part.on_bad_row == "drop"
    to_read = max(num_rows, ROWS_TO_JUDGE_BY) if is_dropping else num_rows
    part = part.model_copy(update={"limit": min(to_read, part.limit or to_read)})
    checked = check_file(part.train, part, task)
    raise_faults([checked])
    rows: list[tuple[Example, ...]] = []
    faults: list[Fault] = []
    for one in render_all(checked.samples, encoder_of(tokenizer), part, checked.task):
        if isinstance(one, RowFault):
            faults.append(one.to_fault())
        else:
            rows.append(one)
        if len(rows) == num_rows:
            break
    if faults and not (is_dropping and rows):
        raise DataError(faults)
    return [example for examples in rows for example in examples]


def _coloured(pieces: Sequence[Piece]) -> Text:
    """Each token in its place; trained ones stand out, and every second one a little less."""
    text = Text()
    for index, piece in enumerate(pieces):
        style = TRAINED_STYLE if piece.weight > 0 else "dim"
        text.append(output.clean(piece.text), style=f"{style} underline" if index % 2 else style)
    return text


def _row_document(example: Example, pieces: Sequence[Piece]) -> dict[str, Any]:
    return {
        "row_id": example.row_id,
        "part": example.part,
        "tokens": len(example.tokens),
        "supervised_tokens": example.supervised_tokens,
        "pieces": [asdict(piece) for piece in pieces],
    }
