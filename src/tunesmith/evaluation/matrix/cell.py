"""One field of the table before it is measured: its recipe, its folder, and what is there already.

A cell's folder is named by the hash of its complete recipe. A changed budget or setting is thus
another folder, and what was measured before stays where it is. A later version may know more keys,
with which the same recipe hashes otherwise: a folder whose recipe is the same, read today, is kept.

    matrix/banking77-head/lora-3f2a91c0/      an ordinary run folder
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from tunesmith.core.errors import Fault, TunesmithError, UserError
from tunesmith.core.run_dir import RunDir
from tunesmith.evaluation.matrix.scenario import Scenario
from tunesmith.evaluation.matrix.technique import Technique, change_recipe, choose_rate
from tunesmith.recipe.load import LoadedRecipe, load_recipe, recipe_from_resolved
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import require_engine

HASH_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A scenario by a technique: a recipe, or the reasons why there is none.

    `overrides` are all that was changed in the scenario's recipe, as `--set` takes them.
    """

    scenario: Scenario
    technique: Technique
    rate_origin: str
    overrides: tuple[str, ...]
    loaded: LoadedRecipe | None = None
    refusal: tuple[Fault, ...] = ()

    @property
    def name(self) -> str:
        """`scenario:technique`, as `--only` takes it."""
        return f"{self.scenario.name}:{self.technique.name}"

    @property
    def recipe_hash(self) -> str | None:
        """Tells this cell's recipe from another of the same name."""
        return hash_recipe(self.loaded.recipe) if self.loaded else None

    def folder(self, matrix: Path) -> Path:
        """Return the cell's run folder in the matrix's."""
        assert self.recipe_hash is not None, "a cell that is refused has no folder"
        named = matrix / self.scenario.name / f"{self.technique.name}-{self.recipe_hash}"
        if named.exists():
            return named
        known = (path for path in self.folders(matrix) if is_measured(path, self.recipe_hash))
        return next(known, named)

    def folders(self, matrix: Path) -> list[Path]:
        """Return the folders of the cell's runs with any budget and settings."""
        pattern = f"{self.technique.name}-" + "[0-9a-f]" * HASH_DIGITS
        return sorted((matrix / self.scenario.name).glob(pattern))


def plan_cell(
    scenario: Scenario,
    technique: Technique,
    overrides: Sequence[str] = (),
    rates: Mapping[str, float] | None = None,
) -> Cell:
    """Work out a cell's recipe. What cannot be is no error here: the cell keeps the reasons.

    Args:
        scenario: The row; its recipe was loaded with the same `overrides`.
        technique: The column.
        overrides: What holds for all cells, as `--set` takes it.
        rates: Learning rates by technique's name.
    """
    rate = choose_rate(technique, scenario.own, rates or {})
    changes = (*overrides, *change_recipe(technique, scenario.own), *rate.overrides)
    loaded, refusal = None, ()
    try:
        recipe = load_recipe(scenario.path, changes)
        require_engine(recipe.recipe.strategy)
        loaded = recipe
    except UserError as error:
        refusal = tuple(_said_of(fault, technique) for fault in error.faults)
    return Cell(
        scenario=scenario,
        technique=technique,
        rate_origin=rate.origin,
        overrides=changes,
        loaded=loaded,
        refusal=refusal,
    )


def _said_of(fault: Fault, technique: Technique) -> Fault:
    """The fault, for a cell whose strategy is the point: another strategy would mend nothing."""
    if technique.strategy is None or f"strategy={technique.strategy}" not in fault.where:
        return fault
    fix = "leave the cell empty: it is measured once this version has the strategy"
    return Fault(found=fault.found, where=fault.where, fix=fix)


def is_measured(folder: Path, recipe_hash: str) -> bool:
    """Say whether a folder holds a finished run of this recipe."""
    run_dir = RunDir(folder)
    if not run_dir.result_json.is_file():
        return False
    try:
        state = run_dir.read_state()
        kept = hash_recipe(recipe_from_resolved(run_dir.resolved_json))
    except (TunesmithError, TypeError):  # a damaged folder is none that is finished
        return False
    return state is not None and state.status == "succeeded" and kept == recipe_hash


def find_stale(cell: Cell, matrix: Path) -> list[str]:
    """Return the folders of the cell's earlier runs with other budgets or settings."""
    if cell.loaded is None:
        return []
    own = cell.folder(matrix)
    found = cell.folders(matrix)
    return [path.name for path in found if path != own and (path / "result.json").is_file()]


def hash_recipe(recipe: Recipe) -> str:
    """Return the first digits of the hash of a complete recipe."""
    content = orjson.dumps(recipe.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:HASH_DIGITS]
