"""What `matrix.json` holds: all cells, and where, when and with what they were measured.

Everything that is shown is in the document, so it can be shown anywhere without the run folders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from tunesmith.core.errors import Fault, UserError
from tunesmith.core.run_dir import read_json, write_json
from tunesmith.evaluation.matrix.cell import Cell
from tunesmith.evaluation.matrix.measured import Measured, Side, main_metric
from tunesmith.evaluation.matrix.scenario import place_of
from tunesmith.recipe.faults import describe_value

FILE = "matrix.json"
PAGE = "matrix.html"
# waiting: not yet begun; stopped: begun, and can go on; refused: found impossible before training.
Status = Literal["measured", "waiting", "stopped", "refused", "failed"]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a cell has no numbers, in the three parts of a fault."""

    found: str
    where: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class ScenarioFacts:
    """A row of the table; `recipe` is a path as the user wrote it."""

    name: str
    kind: str
    recipe: str
    model: str
    task: str


@dataclass(frozen=True, kw_only=True)
class TechniqueFacts:
    """A column of the table, on its three axes."""

    name: str
    method: str
    base: str | None
    strategy: str | None
    trains: str


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A field of the table. `folder` is seen from the matrix's own folder.

    `busy` is how much of the processors' time others took just before the cell began, 0 to 1.
    """

    scenario: str
    technique: str
    status: Status
    rate_origin: str = ""
    learning_rate: float | None = None
    recipe_hash: str | None = None
    folder: str | None = None
    overrides: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    busy: float | None = None
    measured: Measured | None = None

    @property
    def name(self) -> str:
        """`scenario:technique`, as `--only` takes it."""
        return f"{self.scenario}:{self.technique}"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The whole table."""

    date: str
    command: str
    tunesmith: str
    machine: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scenarios: tuple[ScenarioFacts, ...] = ()
    techniques: tuple[TechniqueFacts, ...] = ()
    cells: tuple[CellResult, ...] = ()

    def cell(self, scenario: str, technique: str) -> CellResult | None:
        """Return a field, or None where nobody asked for it."""
        found = (c for c in self.cells if (c.scenario, c.technique) == (scenario, technique))
        return next(found, None)

    def row(self, scenario: str) -> list[CellResult]:
        """Return a scenario's cells, in the order of the techniques."""
        found = (self.cell(scenario, technique.name) for technique in self.techniques)
        return [cell for cell in found if cell is not None]

    def measured(self, scenario: str, technique: str) -> Measured | None:
        """Return a field's numbers, where it has some."""
        cell = self.cell(scenario, technique)
        return cell.measured if cell else None

    def main_metric(self, scenario: str) -> str | None:
        """Return the score by which a scenario is judged; None where it is by its loss alone."""
        sides = (side for _, side in self.sides(scenario))
        return next((name for name in map(main_metric, sides) if name), None)

    def sides(self, scenario: str) -> Iterator[tuple[CellResult, Side]]:
        """Yield what was measured after each technique of a scenario."""
        for cell in self.row(scenario):
            if cell.measured is not None:
                yield cell, cell.measured.after

    def with_cell(self, result: CellResult) -> Matrix:
        """Return the table with one field in the place of the one before."""
        cells = tuple(result if cell.name == result.name else cell for cell in self.cells)
        return replace(self, cells=cells)


def describe_cell(cell: Cell, matrix: Path, status: Status) -> CellResult:
    """Return a cell as the document holds it before it has numbers."""
    folder = str(cell.folder(matrix).relative_to(matrix)) if cell.loaded else None
    return CellResult(
        scenario=cell.scenario.name,
        technique=cell.technique.name,
        status=status,
        rate_origin=cell.rate_origin,
        learning_rate=cell.loaded.recipe.learning_rate if cell.loaded else None,
        recipe_hash=cell.recipe_hash,
        folder=folder,
        overrides=cell.overrides,
        reasons=as_reasons(cell.refusal),
    )


def as_reasons(faults: Iterable[Fault]) -> tuple[Reason, ...]:
    """Return faults as the document holds them."""
    return tuple(Reason(found=f.found, where=f.where, fix=f.fix) for f in faults)


def describe_scenarios(cells: Iterable[Cell]) -> tuple[ScenarioFacts, ...]:
    """Return the rows that the cells are in, each once."""
    scenarios = {cell.scenario.name: cell.scenario for cell in cells}
    return tuple(
        ScenarioFacts(
            name=one.name,
            kind=one.kind,
            recipe=str(one.path),
            model=one.recipe.model.source,
            task=one.recipe.task.type,
        )
        for one in scenarios.values()
    )


def describe_techniques(cells: Iterable[Cell]) -> tuple[TechniqueFacts, ...]:
    """Return the columns that the cells are in, each once."""
    techniques = {cell.technique.name: cell.technique for cell in cells}
    return tuple(
        TechniqueFacts(
            name=one.name,
            method=one.method,
            base=one.base,
            strategy=one.strategy,
            trains=one.trains,
        )
        for one in techniques.values()
    )


def merge(new: Matrix, old: Matrix | None, order: Sequence[str]) -> Matrix:
    """Return a table with the fields of both; a field that both have is the new one's.

    Args:
        new: What is asked for now.
        old: What the folder holds, if anything.
        order: Techniques in the order in which they are shown; others come behind.
    """
    if old is None:
        return new
    asked = {cell.name for cell in new.cells}
    techniques = {one.name: one for one in (*old.techniques, *new.techniques)}
    scenarios = {one.name: one for one in (*old.scenarios, *new.scenarios)}
    rows = sorted(scenarios.values(), key=lambda one: (place_of(one.kind), one.name))
    places = {name: place for place, name in enumerate(order)}
    return replace(
        new,
        scenarios=tuple(rows),
        techniques=tuple(sorted(techniques.values(), key=lambda t: places.get(t.name, len(order)))),
        cells=(*(cell for cell in old.cells if cell.name not in asked), *new.cells),
    )


def write_document(matrix: Matrix, folder: Path) -> None:
    """Replace the folder's matrix.json."""
    write_json(folder / FILE, as_json(matrix))


def read_document(path: Path) -> Matrix:
    """Read a matrix.json, or that of a folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        fix = "name the folder that tunesmith matrix wrote to"
        raise UserError(Fault(found=f"no {FILE}", where=str(path), fix=fix))
    try:
        return TypeAdapter(Matrix).validate_python(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        found, _ = describe_value(first, name or "the document")
        fix = "move it away and start tunesmith matrix again: finished cells are found again"
        raise UserError(Fault(found=found, where=f"{file}: {name}", fix=fix)) from error


def as_json(matrix: Matrix) -> dict[str, Any]:
    """Return the document as JSON's values."""
    return TypeAdapter(Matrix).dump_python(matrix, mode="json")
