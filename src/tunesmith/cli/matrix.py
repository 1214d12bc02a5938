"""`tunesmith matrix`: the table of scenarios by techniques, measured on this machine."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tunesmith import __version__
from tunesmith.cli import output
from tunesmith.cli.matrix_run import Outcome, find_result, launch_cell, measure_cells
from tunesmith.cli.matrix_view import show_matrix, show_plan
from tunesmith.cli.program import shown_path
from tunesmith.core import hardware
from tunesmith.core.errors import Fault, RunError, UserError
from tunesmith.core.run_dir import disk_error, write_bytes
from tunesmith.evaluation.matrix.cell import Cell, find_stale, plan_cell
from tunesmith.evaluation.matrix.document import (
    FILE,
    PAGE,
    Matrix,
    as_json,
    describe_scenarios,
    describe_techniques,
    merge,
    read_document,
)
from tunesmith.evaluation.matrix.page import write_matrix_page
from tunesmith.evaluation.matrix.scenario import find_scenarios
from tunesmith.evaluation.matrix.technique import DEFAULT_TECHNIQUES, find_techniques

RECIPES = Path("recipes")
FOLDER = Path("matrix")
# What the techniques themselves decide.
DECIDED = ("method", "strategy", "model.base")


def matrix(
    *,
    scenarios: tuple[str, ...] = (),
    techniques: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    recipes: Path = RECIPES,
    folder: Annotated[Path, Parameter(name="--dir")] = FOLDER,
    steps: int | None = None,
    rows: int | None = None,
    held_out_rows: int | None = None,
    rates: Annotated[tuple[str, ...], Parameter(name="--rate")] = (),
    overrides: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    dry_run: bool = False,
    report: Path | None = None,
    json: bool = False,
) -> int:
    """Measure scenarios by techniques: what each costs and brings, on this machine.

    Each cell is a run of its own. Finished cells are kept, and a stopped one goes on where it was:
    give the same command again.

    Parameters
    ----------
    scenarios:
        Recipes by name, kind (e.g. ner) or path, or all; by default one of each kind in --recipes.
    techniques:
        Methods as `tunesmith methods` lists them, deepspeed, zero-3; by default full, lora, qlora,
        dora, ia3, deepspeed and zero-3. Another name in ia3's place takes another PEFT method.
    only:
        Single cells, as SCENARIO:TECHNIQUE.
    recipes:
        The folder of recipes; by default recipes.
    folder:
        Where cells and table are kept; by default matrix.
    steps:
        The steps of each cell, in place of the recipe's own length.
    rows:
        The first so many rows of each recipe's data.
    held_out_rows:
        The most held-out rows that are measured.
    rates:
        A technique's learning rate, e.g. full=5e-5, in place of its default.
    overrides:
        A value for every cell, as key=value.
    dry_run:
        Show what would be run, and run nothing.
    report:
        Show and write again what a folder or a matrix.json holds, and run nothing.
    json:
        Print one JSON document at the end, progress on standard error.
    """
    if report is not None:
        return _report(report, as_json=json)
    budget = _budget(steps=steps, rows=rows, held_out_rows=held_out_rows)
    cells = _plan(scenarios, techniques, only, recipes, (*budget, *_checked(overrides)), rates)
    folder = folder.expanduser()
    table = _table(cells, folder)
    stale = {
        cell.name: found for cell in cells if (found := _unmeasured_stale(cell, table, folder))
    }
    if dry_run:
        if not json:
            show_plan(table)
        _show(table, as_json=json, stale=stale)
        return 0
    _make(folder)
    outcome = measure_cells(
        cells,
        table,
        folder,
        launch=partial(launch_cell, as_json=json),
        tell=output.note if json else output.say,
        busy=hardware.busy_share,
    )
    _write_page(outcome.matrix, folder / PAGE)
    _show(outcome.matrix, as_json=json, stale={})
    return _end(outcome, cells, folder, as_json=json)


def _plan(
    scenarios: Sequence[str],
    techniques: Sequence[str],
    only: Sequence[str],
    recipes: Path,
    overrides: Sequence[str],
    rates: Sequence[str],
) -> list[Cell]:
    """Work out every cell that is asked for, row by row."""
    pairs = _pairs(only)
    if pairs and (scenarios or techniques):
        fix = "name each cell by --only, or whole rows and columns by the others"
        found = "--only together with --scenarios or --techniques"
        raise UserError(Fault(found=found, where="the command line", fix=fix))
    by_technique = {one.name: one for one in find_techniques(_columns(techniques, pairs))}
    given = _rates(rates, tuple(by_technique))
    if not pairs:
        found = find_scenarios(_split(scenarios), recipes, overrides)
        asked = [(row, name) for row in found for name in by_technique]
    else:
        rows = {word: find_scenarios([word], recipes, overrides)[0] for word, _ in pairs}
        asked = [(rows[word], name) for word, name in pairs]
    cells = [plan_cell(row, by_technique[name], overrides, given) for row, name in asked]
    return list({cell.name: cell for cell in cells}.values())


def _table(cells: Sequence[Cell], folder: Path) -> Matrix:
    """The table before anything is run: what the folder holds, and a field for each cell."""
    kept = read_document(folder) if (folder / FILE).is_file() else None
    new = Matrix(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(("tunesmith", *sys.argv[1:])),
        tunesmith=__version__,
        machine=hardware.describe(),
        scenarios=describe_scenarios(cells),
        techniques=describe_techniques(cells),
        cells=tuple(find_result(cell, folder, kept) for cell in cells),
    )
    return merge(new, kept, DEFAULT_TECHNIQUES)


def _unmeasured_stale(cell: Cell, table: Matrix, folder: Path) -> list[str]:
    if table.measured(cell.scenario.name, cell.technique.name) is not None:
        return []
    return find_stale(cell, folder)


def _end(outcome: Outcome, cells: Sequence[Cell], folder: Path, *, as_json: bool) -> int:
    """Say where the table is and what is left, and return the exit code."""
    tell = output.note if as_json else output.say
    tell(f"table  {shown_path(folder / FILE)}")
    tell(f"page   {shown_path(folder / PAGE)}  (bars, costs, the usual Yes or No table)")
    if outcome.stopped is not None:
        tell("stopped; give the same command again to go on")
        return outcome.stopped
    asked = [outcome.matrix.cell(cell.scenario.name, cell.technique.name) for cell in cells]
    statuses = [result.status for result in asked if result is not None]
    if "failed" in statuses:
        names = ", ".join(one.name for one in asked if one and one.status == "failed")
        tell(f"failed: {names}; the others are done. The same command tries again")
        return RunError.exit_code
    return 0 if "measured" in statuses else UserError.exit_code


def _report(path: Path, *, as_json: bool) -> int:
    table = read_document(path.expanduser())
    page = (path if path.is_dir() else path.parent) / PAGE
    _write_page(table, page)
    _show(table, as_json=as_json, stale={})
    (output.note if as_json else output.say)(f"page   {shown_path(page)}")
    return 0


def _show(table: Matrix, *, as_json: bool, stale: dict[str, list[str]]) -> None:
    if as_json:
        output.show_json(_document(table, stale))
        return
    show_matrix(table, stale)


def _document(table: Matrix, stale: dict[str, list[str]]) -> dict[str, object]:
    return {**as_json(table), **({"stale": stale} if stale else {})}


def _write_page(table: Matrix, path: Path) -> None:
    write_bytes(path, write_matrix_page(table).encode())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error


def _budget(*, steps: int | None, rows: int | None, held_out_rows: int | None) -> tuple[str, ...]:
    given = {
        "training.max_steps": steps,
        "data.limit": rows,
        "evaluation.rows": held_out_rows,
    }
    return tuple(f"{key}={value}" for key, value in given.items() if value is not None)


def _checked(overrides: Sequence[str]) -> Sequence[str]:
    """Refuse what the techniques decide."""
    faults = [
        Fault(
            found=f"--set {override}: the techniques decide that",
            where="the command line",
            fix="name techniques with --techniques; a rank or targets belong in the recipe",
        )
        for override in overrides
        if any(f"{override.partition('=')[0].strip()}.".startswith(f"{key}.") for key in DECIDED)
    ]
    if faults:
        raise UserError(faults, code="invalid_command")
    return overrides


def _columns(techniques: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Sequence[str]:
    if pairs:
        return [name for _, name in pairs]
    return _split(techniques) or DEFAULT_TECHNIQUES


def _pairs(only: Sequence[str]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for text in _split(only):
        scenario, colon, technique = text.rpartition(":")
        if colon and scenario and technique:
            pairs.append((scenario, technique))
        else:
            fix = "write --only SCENARIO:TECHNIQUE, e.g. --only ner:lora"
            faults.append(Fault(found=f"no scenario:technique: {text!r}", where="--only", fix=fix))
    if faults:
        raise UserError(faults, code="invalid_command")
    return pairs


def _rates(texts: Sequence[str], techniques: Sequence[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    faults: list[Fault] = []
    for text in _split(texts):
        name, _, number = text.partition("=")
        try:
            rates[name] = float(number)
        except ValueError:
            fix = "write --rate TECHNIQUE=RATE, e.g. --rate full=5e-5"
            faults.append(Fault(found=f"no rate: {text!r}", where="--rate", fix=fix))
            continue
        if name not in techniques:
            fix = f"one of {', '.join(techniques)}"
            found = f"{name} is none of the techniques that are asked for"
            faults.append(Fault(found=found, where=f"--rate {text}", fix=fix))
    if faults:
        raise UserError(faults, code="invalid_command")
    return rates


def _split(texts: Sequence[str]) -> list[str]:
    """Words that were given one by one, or with commas between them."""
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]
