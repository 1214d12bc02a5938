"""Answers to the rows of a file, in their order: `python -m tunesmith.predict REQUEST`.

    every row is read and checked       before the model is loaded
    every row is put to the tokenizer   before the first is answered
    so many rows at once                are answered and written, with memory for no more

A process that goes on with the work of another takes the same rows together as that one did, so
what comes out is byte for byte the file of a process that was never stopped.

The process answers in JSON lines: on stdout one {"predict": ...}, or {"error": ...} and exit code 2
or 3; on stderr {"progress": "..."} and {"predicted": {...}}. SIGINT ends it with 130.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tunesmith.core.errors import Fault, TunesmithError, UserError
from tunesmith.core.log import set_up_logging
from tunesmith.core.stopping import INTERRUPTED
from tunesmith.data.asked import AskedRows
from tunesmith.data.fields import TaskName
from tunesmith.data.tally import Tally
from tunesmith.data.validate import raise_tally
from tunesmith.evaluation.label_answerer import LabelAnswerer
from tunesmith.evaluation.label_choice import chooses_label
from tunesmith.inference.answer_rows import Tell, answer_rows, check_prompts
from tunesmith.inference.answerer import Answerer, TextAnswerer
from tunesmith.inference.answers_file import AnswersFile, open_answers, require_writable
from tunesmith.inference.answers_header import what_answers_depend_on
from tunesmith.inference.asking import (
    class_names,
    find_run,
    input_files,
    recipe_of,
    rows_to_ask,
)
from tunesmith.inference.head_answerer import HeadAnswerer
from tunesmith.inference.loading import Loaded, load
from tunesmith.inference.options import in_options
from tunesmith.inference.precision import settle_dtype
from tunesmith.inference.predict_request import OnBadRow, PredictRequest
from tunesmith.inference.protocol import DEFAULT_MAX_NEW_TOKENS
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.methods.attach import Weighted
from tunesmith.models.facts import read_facts
from tunesmith.models.prepare import prepare_model
from tunesmith.training.loss import language_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict once."""
    (text,) = sys.argv[1:] if arguments is None else arguments
    set_up_logging()

    def tell(told: dict[str, Any]) -> None:
        _say(sys.stderr, told)

    try:
        predicted = predict(PredictRequest.from_json(text), tell=tell)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the answers, or started us, has gone
        with suppress(BrokenPipeError):
            _say(sys.stdout, {"predict": None})
        return 0
    except TunesmithError as error:
        faults = [asdict(in_options(fault)) for fault in error.faults]
        known = {"code": error.code, "exit_code": error.exit_code, "total": error.total}
        _say(sys.stdout, {"error": {**known, "faults": faults}})
        return error.exit_code
    _say(sys.stdout, {"predict": asdict(predicted)})
    return 0


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What became of the rows. `refused` are those whose line holds an error in place of an answer.

    `rows_before` were answered by an earlier process; `cut` counts the answers of this one that
    were cut at the most tokens.
    """

    rows: int
    rows_before: int
    refused: int
    cut: int
    seconds: float


def predict(request: PredictRequest, *, tell: Tell) -> Predicted:
    """Answer every row of the input.

    Raises:
        DataError: with every row at fault, before the model is loaded; or with every row that the
            model cannot be asked, before any is answered.
        UserError: there are answers already, and they are not to be gone on with.
        RunError: the disk is full, or memory is.
    """
    files = input_files(request)
    if request.output_descriptor is None:
        paths = [path for file in files for path in (file.path, *file.beside)]
        require_writable(_output(request), request.existing, paths)
    rows = rows_to_ask(request, files)
    tally = _check(rows, request.on_bad_row)
    loaded = _load(request, tell)
    if find_run(request.what) is None:  # now it is known what the model can do
        rows = rows_to_ask(request, files, _task_of(loaded))
        tally = _check(rows, request.on_bad_row)
    _tell_tally(tally, tell)
    dtype = settle_dtype(loaded.model, request.dtype, tell=lambda text: tell({"progress": text}))
    settings = _settings(request)
    labels = class_names(find_run(request.what))
    answerer = make_answerer(loaded, rows, request, settings)
    if not isinstance(answerer, TextAnswerer) and (request.max_new_tokens or request.temperature):
        tell({"progress": "nothing is written: --max-new-tokens, --temperature have no effect"})
    refused = check_prompts(rows, answerer, request.on_bad_row)
    with _open(
        request,
        lambda: what_answers_depend_on(
            loaded, rows, files, {"dtype": dtype, "labels": labels, **settings}
        ),
    ) as answers:
        _require_no_more(answers, tally.rows_read)
        answered = answer_rows(rows, answerer, answers, total=tally.rows_read, tell=tell)
    return Predicted(
        rows=tally.rows_read,
        rows_before=answers.num_lines,
        refused=tally.rows_refused + refused,
        cut=answered.cut,
        seconds=answered.seconds,
    )


def make_answerer(
    loaded: Loaded, rows: AskedRows, request: PredictRequest, settings: Mapping[str, Any]
) -> Answerer:
    """Return what answers the rows of this model's task."""
    tokenizer, batch_tokens = loaded.tokenizer, request.batch_tokens
    if loaded.headed is not None:
        return HeadAnswerer(loaded.headed, tokenizer, rows.part, batch_tokens=batch_tokens)
    engine = TorchEngine(loaded.model, tokenizer, batch_tokens=batch_tokens)
    run_dir = find_run(request.what)
    recipe, labels = recipe_of(run_dir), class_names(run_dir)
    if recipe is not None and chooses_label(recipe.task, labels):
        folder = prepare_model(recipe.model.source, recipe.model.revision).folder
        most = engine.max_prompt_tokens or sys.maxsize
        return LabelAnswerer(
            model=language_model(loaded.model, read_facts(folder)),
            tokenizer=tokenizer,
            part=rows.part.model_copy(update={"max_length": most}),
            labels=labels,
            batch_tokens=batch_tokens,
        )
    return TextAnswerer(
        engine,
        tokenizer,
        rows.part,
        max_prompt_tokens=engine.max_prompt_tokens,
        batch_tokens=batch_tokens,
        **settings,
    )


def _task_of(loaded: Loaded) -> TaskName:
    """What rows are for where no run says it."""
    if loaded.headed is None:
        return loaded.task
    match loaded.headed.head.kind:
        case "classes":
            return "classification-head"
        case "tags":
            return "ner-head-causal" if loaded.headed.is_decoder else "ner-head"
        case "span":
            return "qa-head"


def _check(rows: AskedRows, on_bad_row: OnBadRow) -> Tally:
    """Go through all rows; raises DataError with the faults that stand in the way."""
    tally = rows.check()
    on_bad = "error" if on_bad_row == "error" else "drop"
    raise_tally(tally, file=rows.judgement.file, on_bad_row=on_bad)
    return tally


def _tell_tally(tally: Tally, tell: Tell) -> None:
    for note in tally.notes:
        tell({"progress": f"{note.what} ({note.rows:,} rows, first {note.first})"})
    if tally.ignored:
        tell({"progress": f"columns that are not read: {', '.join(sorted(tally.ignored))}"})


def _load(request: PredictRequest, tell: Tell) -> Loaded:
    tell({"progress": f"loading {request.what}"})
    adapters = [Weighted(Path(folder), weight) for folder, weight in request.adapters]
    return load(request.what, adapters)


def _settings(request: PredictRequest) -> dict[str, Any]:
    """How answers are drawn; a run's own evaluation says how long they may be."""
    recipe = recipe_of(find_run(request.what))
    usual = recipe.evaluation.max_new_tokens if recipe else DEFAULT_MAX_NEW_TOKENS
    return {
        "max_new_tokens": request.max_new_tokens or usual,
        "temperature": request.temperature,
        "seed": request.seed,
    }


def _require_no_more(answers: AnswersFile, num_rows: int) -> None:
    if answers.num_lines > num_rows:
        found = f"{answers.num_lines:,} answers to {num_rows:,} rows"
        fix = "begin anew with --overwrite"
        raise UserError(Fault(found=found, where=str(answers.path), fix=fix), code="answers_differ")


def _output(request: PredictRequest) -> Path:
    return Path(request.output).expanduser().absolute()


def _open(
    request: PredictRequest, header: Callable[[], dict[str, Any]]
) -> AbstractContextManager[AnswersFile]:
    if request.output_descriptor is None:
        return open_answers(_output(request), header(), request.existing)
    file = io.FileIO(request.output_descriptor, "w")
    return nullcontext(AnswersFile(Path(request.output), file))


def _say(stream: IO[str], value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
