"""Carries out the cells of the measured table, one after another, and keeps what each came to.

A cell is an ordinary run in a folder of its own. One that fails or is refused keeps its reason and
does not stop the others; one that is stopped ends the whole, and goes on where it was. The document
is written after every cell, so nothing that was measured is lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.cli.launch import INTERRUPTED, Ending, carry_out
from tunesmith.cli.train import make_ready_again, prepare
from tunesmith.core.errors import Fault, TunesmithError, UserError
from tunesmith.core.run_dir import RunDir
from tunesmith.evaluation.matrix.cell import Cell, find_stale, is_measured
from tunesmith.evaluation.matrix.document import (
    CellResult,
    Matrix,
    Status,
    as_reasons,
    describe_cell,
    write_document,
)
from tunesmith.evaluation.matrix.measured import read_measured

Launch = Callable[[Cell, Path], Ending]
Tell = Callable[[str], None]
Busy = Callable[[], float]


@dataclass(frozen=True)
class Outcome:
    """The table as far as it came, and the exit code where it was stopped."""

    matrix: Matrix
    stopped: int | None = None


def find_result(cell: Cell, matrix: Path, kept: Matrix | None) -> CellResult:
    """Return what is known of a cell before anything is run: from its folder, else the document."""
    if cell.loaded is None:
        return describe_cell(cell, matrix, "refused")
    folder = cell.folder(matrix)
    old = kept.cell(cell.scenario.name, cell.technique.name) if kept else None
    result = describe_cell(cell, matrix, "waiting")
    if old and old.folder != result.folder:
        old = None
    if is_measured(folder, cell.recipe_hash or ""):
        busy = old.busy if old else None
        measured = read_measured(RunDir(folder))
        return replace(result, status="measured", measured=measured, busy=busy)
    if old and old.measured is None:
        return replace(result, status=old.status, reasons=old.reasons, busy=old.busy)
    return result


def measure_cells(
    cells: Sequence[Cell],
    matrix: Matrix,
    folder: Path,
    *,
    launch: Launch,
    tell: Tell,
    busy: Busy,
) -> Outcome:
    """Carry out every cell that has no numbers yet; `matrix` holds a field for each.

    Before each, `busy` says how much of the processors others take: it tells which speeds compare.

    Raises:
        RunError: the document cannot be written.
    """
    write_document(matrix, folder)
    todo = [cell for cell in cells if cell.loaded is not None and not _is_done(matrix, cell)]
    for place, cell in enumerate(todo, start=1):
        _announce(cell, folder, f"cell {place} of {len(todo)}", tell)
        others = busy()
        result, stopped = _measure(cell, folder, launch, tell)
        matrix = matrix.with_cell(replace(result, busy=round(others, 2)))
        write_document(matrix, folder)
        if stopped is not None:
            return Outcome(matrix, stopped)
    return Outcome(matrix)


def launch_cell(cell: Cell, folder: Path, *, as_json: bool) -> Ending:
    """Start a cell's run, or go on with it, as `tunesmith train` would."""
    assert cell.loaded is not None, "a cell that is refused is not started"
    path = cell.folder(folder)
    if RunDir(path).resolved_json.is_file():
        run_dir = RunDir.open(path)
        make_ready_again(run_dir)
    else:
        _discard_half_made(path)
        run_dir = prepare(cell.loaded, path, cell.name, as_json=as_json)
    return carry_out(run_dir, as_json=as_json)


def _is_done(matrix: Matrix, cell: Cell) -> bool:
    return matrix.measured(cell.scenario.name, cell.technique.name) is not None


def _announce(cell: Cell, folder: Path, place: str, tell: Tell) -> None:
    assert cell.loaded is not None
    rate = f"learning rate {cell.loaded.recipe.learning_rate:g} ({cell.rate_origin})"
    tell(f"{place}: {cell.scenario.name} by {cell.technique.name}, {rate}")
    stale = find_stale(cell, folder)
    if stale:
        kept = ", ".join(stale)
        tell(f"  measured with other settings before ({kept}), which does not count now")


def _measure(cell: Cell, folder: Path, launch: Launch, tell: Tell) -> tuple[CellResult, int | None]:
    """Return what became of a cell, and the exit code where all is to end."""
    run_dir = RunDir(cell.folder(folder))
    status: Status
    try:
        ending = launch(cell, folder)
        if ending.status == "stopped":
            return describe_cell(cell, folder, "stopped"), ending.exit_code
        measured = read_measured(run_dir)
        shutil.rmtree(run_dir.checkpoints, ignore_errors=True)  # nothing is left to go on with
        return replace(describe_cell(cell, folder, "measured"), measured=measured), None
    except KeyboardInterrupt:  # while the data was checked, before there was a run to ask
        return describe_cell(cell, folder, "waiting"), INTERRUPTED
    except TunesmithError as error:
        status = "refused" if isinstance(error, UserError) else "failed"
        faults = [_seen_from(folder, fault) for fault in error.faults]
    tell(f"  {status}: {faults[0].found}")
    return replace(describe_cell(cell, folder, status), reasons=as_reasons(faults)), None


def _seen_from(folder: Path, fault: Fault) -> Fault:
    """The fault with paths from the matrix's folder: the document may be shown elsewhere."""
    here = f"{folder.absolute()}/"
    return Fault(
        found=fault.found.replace(here, ""),
        where=fault.where.replace(here, ""),
        fix=fault.fix.replace(here, ""),
    )


def _discard_half_made(path: Path) -> None:
    """Remove what a break while preparing left: no run, and not the user's."""
    if path.is_dir():
        shutil.rmtree(path)
