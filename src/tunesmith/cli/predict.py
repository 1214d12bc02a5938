"""`tunesmith predict`: an answer to each row of a file, in the rows' order."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from tunesmith.cli import output as out
from tunesmith.cli.child import ask
from tunesmith.cli.columns import parse_columns
from tunesmith.cli.progress import bar_text
from tunesmith.cli.quantities import duration_text
from tunesmith.cli.what import find_what, weighted_adapter
from tunesmith.core.errors import Fault, UserError
from tunesmith.core.stopping import INTERRUPTED, PAUSED, StoppedEarly
from tunesmith.inference.predict_request import (
    DtypeWord,
    Existing,
    OnBadRow,
    PredictRequest,
)
from tunesmith.recipe.data import FormatName
from tunesmith.recipe.evaluation import TOKENS_ANSWERED_AT_ONCE

MODULE = "tunesmith.predict"
STANDARD = "-"
Words = Annotated[str, Parameter(allow_leading_hyphen=True)]  # a hyphen alone is a stream


def predict(
    what: str,
    /,
    *,
    input: Words,
    output: Words,
    adapter: tuple[str, ...] = (),
    format: FormatName | None = None,
    columns: tuple[str, ...] = (),
    system: str | None = None,
    max_new_tokens: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    temperature: Annotated[float, Parameter(validator=Number(gte=0))] = 0.0,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    batch_tokens: Annotated[int, Parameter(validator=Number(gte=1))] = TOKENS_ANSWERED_AT_ONCE,
    dtype: DtypeWord = "auto",
    on_bad_row: OnBadRow = "error",
    resume: bool = False,
    overwrite: bool = False,
    json: bool = False,
) -> int:
    """Answer every row of a file with a run's model, a catalogue model, or a model folder.

    Rows are read as a run's training rows were, with or without their answers. The answers are
    JSON lines in the order of the rows: row_id, answer, finish_reason, and the row's own answer
    as reference.

    Parameters
    ----------
    what:
        A run's folder or its name in ./runs, a catalogue model, a hub id, or a model folder.
    input:
        The rows: whatever a recipe's data.train may name, or - for standard input.
    output:
        The file of answers, or - for standard output.
    adapter:
        A LoRA adapter to add, as FOLDER or FOLDER=WEIGHT. May be repeated: they add up.
    format:
        The form of a row; by default that of the run's training rows, or found from the columns.
    columns:
        The input's own column name, e.g. prompt=question; repeated for each column.
    system:
        The system message; by default the one that the run was trained with, if any.
    max_new_tokens:
        The most tokens of an answer; by default as in the run's own evaluation, else 512.
    temperature:
        How freely words are drawn; by default 0, always the likeliest.
    seed:
        What is drawn, with a temperature; by default 0.
    batch_tokens:
        The most tokens that are held at once; by default 8192. Lower it where memory runs out.
    dtype:
        What is computed in: fp32, in which an answer is the same in any batch, or bf16; by default
        fp32 on a CPU, where it fits.
    on_bad_row:
        Report all bad rows and answer none, or (report) put each error in its row's line.
    resume:
        Go on behind the last answer that is there.
    overwrite:
        Begin anew, whatever is there.
    json:
        Print one JSON document, progress on standard error.
    """
    request = PredictRequest(
        what=find_what(what),
        input=input,
        output=output,
        adapters=tuple(weighted_adapter(text) for text in adapter),
        existing=_existing(output, resume=resume, overwrite=overwrite, json=json),
        format=format,
        columns=named.model_dump(exclude_none=True) if (named := parse_columns(columns)) else {},
        system=system or None,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        batch_tokens=batch_tokens,
        dtype=dtype,
        on_bad_row=on_bad_row,
    )
    with _standard_streams(request) as settled:
        try:
            answer = _carry_out(settled, as_json=json or output == STANDARD)
        except KeyboardInterrupt:
            _tell_stopped(output)
            return INTERRUPTED
        except StoppedEarly as request_to_stop:
            _tell_stopped(output)
            return request_to_stop.exit_code
    _show(answer["predict"], output, as_json=json)
    return 0


def _existing(output: str, *, resume: bool, overwrite: bool, json: bool) -> Existing:
    given = [
        name
        for name, is_given in (("--resume", resume), ("--overwrite", overwrite), ("--json", json))
        if is_given
    ]
    if resume and overwrite:
        raise _contradiction("--resume and --overwrite", "give one of them")
    if output == STANDARD and given:
        raise _contradiction(f"{given[0]} with --output -", "name a file with --output")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def _contradiction(found: str, fix: str) -> UserError:
    fault = Fault(found=found, where="the command line", fix=fix)
    return UserError(fault, code="invalid_command")


@contextmanager
def _standard_streams(request: PredictRequest) -> Generator[PredictRequest]:
    """Put standard input into a file, which may be read twice, and open standard output."""
    changes: dict[str, Any] = {}
    if request.output == STANDARD:
        changes |= {"output": "standard output", "output_descriptor": os.dup(1)}
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        if request.input == STANDARD:
            file = Path(folder) / "stdin"
            with file.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            changes |= {"input": str(file), "shown": "stdin"}
        try:
            yield replace(request, **changes)
        finally:
            if "output_descriptor" in changes:
                os.close(changes["output_descriptor"])


def _carry_out(request: PredictRequest, *, as_json: bool) -> Mapping[str, Any]:
    argv = (sys.executable, "-m", MODULE, request.to_json())
    descriptors = [] if request.output_descriptor is None else [request.output_descriptor]
    with out.progress(as_json=as_json) as progress, _stopped_by_sigterm():

        def show(told: Mapping[str, Any]) -> None:
            if told.get("progress"):
                progress.line(str(told["progress"]))
            elif told.get("predicted"):
                text = progress_text(told["predicted"])
                progress.step(
                    f"{bar_text(told['predicted']['rows'], told['predicted']['total'])} {text}",
                    text,
                )

        return ask(argv, what=request.what, error=UserError, show=show, descriptors=descriptors)


def progress_text(told: Mapping[str, Any]) -> str:
    """Say how far it is, how fast, and how long it will take."""
    rate, left = float(told["rows_per_second"]), duration_text(told["seconds_left"])
    return f"{told['rows']:,} of {told['total']:,} rows  {rate:.1f} rows/s  {left} left"


@contextmanager
def _stopped_by_sigterm() -> Generator[None]:
    """Within the block SIGTERM raises StoppedEarly, so that the process behind is ended, too."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise StoppedEarly(PAUSED, "asked to end by SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell_stopped(output: str) -> None:
    if output != STANDARD:
        out.note(f"stopped; the answers so far are in {output}: --resume goes on behind them")


def _show(predicted: Mapping[str, Any] | None, output: str, *, as_json: bool) -> None:
    if predicted is None:  # whoever read the answers has gone
        return
    if as_json:
        out.show_json({"output": str(Path(output).absolute()), **predicted})
        return
    if output == STANDARD:
        for line in _sentences(predicted):
            out.note(line)
        return
    out.say(f"answers: {output}", style="bold")
    for line in _sentences(predicted):
        out.say(f"  {line}")


def _sentences(predicted: Mapping[str, Any]) -> list[str]:
    before, seconds = predicted["rows_before"], predicted["seconds"]
    done = predicted["rows"] - before
    there = f", {before:,} of them were there before" if before else ""
    lines = [f"{predicted['rows']:,} rows{there}; {done:,} took {duration_text(seconds)}"]
    if predicted["refused"]:
        lines.append(f"{predicted['refused']:,} rows could not be asked: their lines say why")
    if predicted["cut"]:
        lines.append(f"{predicted['cut']:,} answers were cut: see --max-new-tokens")
    return lines
