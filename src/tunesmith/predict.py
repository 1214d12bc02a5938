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

import hashlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch

from tunesmith import __version__
from tunesmith.core.errors import Fault, TunesmithError, UserError
from tunesmith.core.file_hash import file_sha256
from tunesmith.core.log import set_up_logging
from tunesmith.core.stopping import INTERRUPTED
from tunesmith.data.asked import AskedRows
from tunesmith.data.rows import DataFile
from tunesmith.data.tally import Tally
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.data.validate import raise_tally
from tunesmith.inference.answer_rows import Tell, answer_rows, check_prompts
from tunesmith.inference.answerer import Answerer, TextAnswerer
from tunesmith.inference.answers_file import AnswersFile, open_answers, require_writable
from tunesmith.inference.asking import find_run, input_files, recipe_of, rows_to_ask
from tunesmith.inference.head_answerer import HeadAnswerer
from tunesmith.inference.loading import Loaded, load
from tunesmith.inference.precision import settle_dtype
from tunesmith.inference.predict_request import OnBadRow, PredictRequest
from tunesmith.inference.protocol import DEFAULT_MAX_NEW_TOKENS
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.methods.attach import Weighted


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
        faults = [asdict(fault) for fault in error.faults]
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
        rows = rows_to_ask(request, files, loaded.task)
        tally = _check(rows, request.on_bad_row)
    _tell_tally(tally, tell)
    dtype = settle_dtype(loaded.model, request.dtype, tell=lambda text: tell({"progress": text}))
    settings = _settings(request)
    answerer = make_answerer(loaded, rows, request, **settings)
    refused = check_prompts(rows, answerer, request.on_bad_row)
    with _open(
        request, lambda: _header(loaded, rows, files, {"dtype": dtype, **settings})
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
    loaded: Loaded,
    rows: AskedRows,
    request: PredictRequest,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Answerer:
    """Return what answers the rows of this model's task."""
    if loaded.headed is not None:
        return HeadAnswerer(loaded.headed, loaded.tokenizer, batch_tokens=request.batch_tokens)
    engine = TorchEngine(loaded.model, loaded.tokenizer, batch_tokens=request.batch_tokens)
    return TextAnswerer(
        engine,
        loaded.tokenizer,
        rows.part,
        max_prompt_tokens=engine.max_prompt_tokens,
        max_new_tokens=max_new_tokens,
        batch_tokens=request.batch_tokens,
        temperature=temperature,
        seed=seed,
    )


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


def _header(
    loaded: Loaded, rows: AskedRows, files: Sequence[DataFile], settings: dict[str, Any]
) -> dict[str, Any]:
    """Everything that an answer depends on; hashes of what is large."""
    judgement, part = rows.judgement, rows.part
    return {
        "tunesmith": __version__,
        "input_sha256": _files_sha256(files),
        "model_sha256": weights_sha256(loaded.model),
        "tokenizer_sha256": _tokenizer_sha256(loaded.tokenizer),
        "task": judgement.task,
        "form": judgement.form,
        "columns": dict(judgement.columns),
        "renamed": dict(rows.renamed),
        "system": part.system,
        "system_role": part.system_role,
        "turn_order": part.turn_order,
        **settings,
    }


def weights_sha256(model: torch.nn.Module) -> str:
    """The hash of all that a model computes with, its adapters too."""
    digest = hashlib.sha256()
    state: dict[str, Any] = model.state_dict()
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, torch.Tensor):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _tokenizer_sha256(tokenizer: Tokenizer) -> str:
    text = tokenizer.backend_tokenizer.to_str() + str(tokenizer.chat_template)
    return hashlib.sha256(text.encode()).hexdigest()


def _files_sha256(files: Sequence[DataFile]) -> str:
    hashes = [file_sha256(path) for file in files for path in (file.path, *file.beside)]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _say(stream: IO[str], value: dict[str, Any]) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
