"""The `tunesmith` command: from arguments to a verb, and from an error to an exit code.

A verb's module is imported when the verb is called, so that `--help` stays quick; this module
imports nothing that is heavy. A verb returns its exit code, or raises.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from tunesmith import __version__
from tunesmith.core.errors import Fault, TunesmithError, UserError

HELP = "Fine-tune language models, small ones first, on the compute you have."
EPILOGUE = (
    "Start with: tunesmith quickstart. Every command has its own --help; with --debug an error "
    "shows its traceback.\n\n"
    "Exit codes: 0 good; 2 a fault of recipe, data or machine, found before training; 3 a run that "
    "failed; 75 stopped early and 130 stopped by Ctrl-C, both can be resumed."
)

STOPPING = (
    "Ctrl-C once finishes the step and saves, so that train --resume can go on; "
    "twice stops at once."
)
STOPPING_A_TABLE = (
    "Ctrl-C once finishes the step and saves, and the same command goes on; twice stops at once."
)
EPILOGUES = {"quickstart": STOPPING, "train": STOPPING, "matrix": STOPPING_A_TABLE}

# Name, where its function or its commands are, what it does.
VERBS = (
    ("quickstart", "quickstart:quickstart", "Fine-tune a small real model on sample data."),
    ("train", "train:train", "Run a recipe, or go on with a run that was stopped."),
    ("chat", "chat:chat", "Talk to a run's model, a catalogue model, or a model folder."),
    ("predict", "predict:predict", "Answer every row of a file, in order; can be resumed."),
    ("merge", "merge:merge", "Work an adapter into its base model, as a folder of its own."),
    ("data", "data:app", "Check, show and count the rows of a data file."),
    ("recipe", "recipe:recipe", "Show a recipe in full, with where each value comes from."),
    ("methods", "methods:methods", "List what can be trained, at what cost, and when to take it."),
    ("matrix", "matrix:matrix", "Measure scenarios by techniques on this machine, as a table."),
    ("runs", "runs:app", "List, show and follow runs."),
    ("track", "track:track", "Show a run's numbers in TensorBoard, MLflow, W&B or trackio."),
    ("doctor", "doctor:doctor", "Say what this machine has and what is missing."),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit code."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = _take("--debug", tokens)
    as_json = "--json" in tokens
    _survive_odd_characters()
    try:
        return _run(tokens)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        from tunesmith.cli import output

        output.forget_standard_output()
        return 0
    except TunesmithError as error:
        if debug:
            traceback.print_exc()
        return _report(error, as_json=as_json)
    except Exception:
        if debug:
            raise
        return _report(_as_bug(), as_json=as_json)


def _run(tokens: list[str]) -> int:
    try:
        code = make_app()(
            tokens, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        raise _as_user_error(error) from error
    return code if isinstance(code, int) else 0


def make_app() -> App:
    """The application with all its verbs, none of them imported yet."""
    app = App(
        name="tunesmith",
        help=HELP,
        help_epilogue=EPILOGUE,
        help_format="plaintext",  # the others import a Markdown parser
        version=__version__,
        default_parameter=Parameter(negative=(), show_default=False),
        suppress_keyboard_interrupt=False,
    )
    for place, (name, target, summary) in enumerate(VERBS):
        # our epilogue is for the first page only; an imported App brings its own settings
        epilogue = EPILOGUES.get(name, "")
        settings = {} if target.endswith(":app") else {"help_epilogue": epilogue}
        app.command(f"tunesmith.cli.{target}", name=name, help=summary, sort_key=place, **settings)
    return app


def _take(flag: str, tokens: list[str]) -> bool:
    """Remove a flag that every verb has, wherever it stands before a `--`."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    found = flag in tokens[:end]
    if found:
        tokens.remove(flag)
    return found


def _as_user_error(error: CycloptsError) -> UserError:
    command = " ".join(("tunesmith", *(error.command_chain or ())))
    found = " ".join(str(error).split())
    fix = f"see {command} --help"
    if isinstance(error, UnusedCliTokensError):
        found = f"nothing takes {' '.join(map(repr, error.unused_tokens or ()))}"
        fix = f"an option is repeated for each of its values; {fix}"
    return UserError(Fault(found=found, where="the command line", fix=fix), code="invalid_command")


def _as_bug() -> TunesmithError:
    """An exception that nobody foresaw: the traceback goes to a file, the user gets its path."""
    kind, message, _ = sys.exc_info()
    with tempfile.NamedTemporaryFile(
        "w", prefix="tunesmith-error-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        traceback.print_exc(file=log)
    name = kind.__name__ if kind else "error"
    fault = Fault(
        found=f"this is a bug of Tunesmith, not your fault ({name}: {message})",
        where=f"the details are in {log.name}",
        fix="report it with that file; with --debug the details are shown here",
    )
    return TunesmithError(fault, code="bug")


def _report(error: TunesmithError, *, as_json: bool) -> int:
    from tunesmith.cli import output

    with suppress(BrokenPipeError):
        output.show_error(error, as_json=as_json)
    return error.exit_code


def _survive_odd_characters() -> None:
    """Print a replacement where the terminal's encoding lacks a character, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
