"""`tunesmith train`: from a recipe to a run, and from a stopped run to its end."""

from __future__ import annotations

import time
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tunesmith.cli import output
from tunesmith.cli.launch import PAUSED, Ending, carry_out, resume_command
from tunesmith.cli.next_commands import next_commands
from tunesmith.cli.preflight import check_before_run
from tunesmith.cli.program import suggest
from tunesmith.cli.rank import carry_out_rank, find_place
from tunesmith.cli.summary import read_optional, show_next, show_summary
from tunesmith.core.errors import Fault, MachineError, UserError
from tunesmith.core.run_dir import (
    RunDir,
    RunState,
    disk_error,
    is_alive,
    write_bytes,
    write_json,
)
from tunesmith.core.run_lock import require_free
from tunesmith.platforms.stored_run import bring_back
from tunesmith.recipe.load import LoadedRecipe, load_recipe, recipe_from_resolved, resolved
from tunesmith.recipe.spread import change_strategy, sets_strategy
from tunesmith.recipe.target import RayTarget

RUNS = Path("runs")


def train(
    recipe: Path | None = None,
    /,
    *,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    run_dir: Path | None = None,
    resume: bool = False,
    on: Literal["local", "ray"] | None = None,
    json: bool = False,
) -> int:
    """Run a recipe, or go on with a run that was stopped.

    Parameters
    ----------
    recipe:
        The recipe, a YAML file. Not with --resume, which goes on with the run's own.
    overrides:
        A value in place of the recipe's, as key=value, e.g. training.epochs=1. May be repeated.
        With --resume only the strategy's and the target's, e.g. strategy.processes=4.
    run_dir:
        The folder of the run; by default runs/NAME-DATE-TIME.
    resume:
        Go on with the run in --run-dir.
    on:
        Where it happens, in place of the recipe's target: this machine, or a Ray cluster that it is
        a node of.
    json:
        Print one JSON document at the end, progress on standard error.
    """
    if on is not None:
        overrides = ("target.type=ray" if on == "ray" else "target=local", *overrides)
    place = find_place(run_dir or (recipe if resume else None))
    if place is not None and place.rank:
        return carry_out_rank(run_dir or recipe or Path(), place)
    if resume:
        folder = RunDir.open(_folder_to_resume(recipe, run_dir, overrides))
        return go_on(folder, as_json=json, overrides=overrides)
    if recipe is None:
        fix = "name one: tunesmith train RECIPE; tunesmith quickstart works without"
        raise UserError(Fault(found="no recipe", where="the command line", fix=fix))
    folder = prepare(load_recipe(recipe, overrides), run_dir, recipe.stem, as_json=json)
    return finish(folder, as_json=json)


def prepare(loaded: LoadedRecipe, run_dir: Path | None, name: str, *, as_json: bool) -> RunDir:
    """Make the run's folder with everything that the run's process needs."""
    for text in loaded.notes:
        output.note(text)
    check_before_run(loaded.recipe)
    folder = RunDir.create(run_dir or _default_folder(name))
    write_bytes(folder.recipe_yaml, loaded.text.encode())
    folder.write_state(
        RunState(status="created", pid=None, heartbeat=time.time(), step=0, total_steps=None)
    )
    write_json(folder.resolved_json, resolved(loaded))
    if not as_json:
        output.say(f"run folder: {folder.path}")
    return folder


def go_on(run_dir: RunDir, *, as_json: bool, overrides: tuple[str, ...] = ()) -> int:
    """Go on with a stopped run; one that is finished is shown again.

    `overrides` may change the strategy and the target, which changes no numbers beyond their last
    digits.
    """
    state = run_dir.read_state()
    if state and state.status == "succeeded":
        output.note("this run is finished; nothing is left to do")
        return _show_ending(run_dir, Ending("succeeded", 0), as_json=as_json)
    make_ready_again(run_dir)
    if overrides:
        change_strategy(run_dir, overrides)
    target = recipe_from_resolved(run_dir.resolved_json).target
    storage = target.storage if isinstance(target, RayTarget) else None
    bring_back(run_dir, storage, output.note)
    return finish(run_dir, as_json=as_json)


def make_ready_again(run_dir: RunDir) -> None:
    """Make a begun run ready to go on; one that is going on already is refused."""
    state = run_dir.read_state()
    if state and state.status == "running" and is_alive(state):
        found = f"this run is going on already (process {state.pid}, step {state.step})"
        fix = "watch it with: " + suggest("runs follow", run_dir.path)
        raise MachineError(Fault(found=found, where=str(run_dir.path), fix=fix), code="run_active")
    require_free(run_dir)  # a process that has it need not have said so yet
    try:
        run_dir.control.unlink(missing_ok=True)  # an old request would stop it at once
    except OSError as error:
        known = disk_error(run_dir.path, error)
        raise MachineError(known.faults, code=known.code) from error


def finish(run_dir: RunDir, *, as_json: bool) -> int:
    """Carry the run out, show how it ended, and return its exit code."""
    return _show_ending(run_dir, carry_out(run_dir, as_json=as_json), as_json=as_json)


def _show_ending(run_dir: RunDir, ending: Ending, *, as_json: bool) -> int:
    if as_json:
        output.show_json(_document(run_dir, ending))
    elif ending.status == "succeeded":
        show_summary(run_dir)
        show_next(run_dir)
    else:
        why = "paused" if ending.exit_code == PAUSED else "stopped"
        output.say(f"{why}; go on with: {resume_command(run_dir)}", style="bold")
    return ending.exit_code


def _document(run_dir: RunDir, ending: Ending) -> dict[str, Any]:
    document: dict[str, Any] = {
        "run_dir": str(run_dir.path),
        "status": ending.status,
        "exit_code": ending.exit_code,
    }
    if ending.status == "stopped":
        return {**document, "resume": resume_command(run_dir)}
    return {
        **document,
        "result": read_optional(run_dir, "result.json"),
        "report": str(run_dir.report_html) if run_dir.report_html.exists() else None,
        "next": next_commands(run_dir),
    }


def _folder_to_resume(
    recipe: Path | None, run_dir: Path | None, overrides: tuple[str, ...]
) -> Path:
    """The run folder may be given in the recipe's place, since the run has its own recipe."""
    others = [one for one in overrides if not sets_strategy(one)]
    if others:
        found = f"--set {others[0]} together with --resume"
        fix = "leave it out: a run goes on as it began (only its strategy and target may change); "
        fix += "start a new run for other values"
        raise UserError(Fault(found=found, where="the command line", fix=fix))
    if recipe is not None and (run_dir is not None or not recipe.is_dir()):
        found = f"the recipe {recipe} together with --resume"
        fix = "leave it out: tunesmith train --resume --run-dir FOLDER"
        raise UserError(Fault(found=found, where="the command line", fix=fix))
    folder = run_dir or recipe
    if folder is None:
        fix = "name it: tunesmith train --resume --run-dir FOLDER; tunesmith runs list shows them"
        raise UserError(Fault(found="no run to resume", where="the command line", fix=fix))
    return folder


def _default_folder(name: str) -> Path:
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    candidates = (RUNS / (f"{stem}-{number}" if number else stem) for number in count())
    return next(path for path in candidates if not path.exists())
