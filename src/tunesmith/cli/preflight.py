"""What can be checked before a run's folder is made: the model's name and every row of the data."""

from __future__ import annotations

from tunesmith.cli import output
from tunesmith.core.errors import Fault, UserError
from tunesmith.data.pipeline import check_data
from tunesmith.models.source import locate
from tunesmith.platforms.object_store import check_store, open_store
from tunesmith.recipe import Recipe
from tunesmith.recipe.deepspeed_config import engine_settings
from tunesmith.recipe.strategy import require_engine
from tunesmith.recipe.target import RayTarget, require_platform
from tunesmith.recipe.task import rows_for
from tunesmith.tasks.scores.table import require_libraries


def check_before_run(recipe: Recipe) -> None:
    """Raise the faults of model name and data together, so that no folder is made in vain."""
    errors: list[UserError] = []
    for check in (_check_model, _check_libraries, _check_engine, _check_data):
        try:
            check(recipe)
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        faults: list[Fault] = [fault for error in errors for fault in error.faults]
        raise UserError(faults)


def _check_libraries(recipe: Recipe) -> None:
    require_libraries(recipe.task, recipe.evaluation.metrics)


def _check_engine(recipe: Recipe) -> None:
    engine_settings(recipe)
    require_engine(recipe.strategy)
    require_platform(recipe.target)
    if isinstance(recipe.target, RayTarget) and recipe.target.storage is not None:
        check_store(open_store(recipe.target.storage))


def _check_model(recipe: Recipe) -> None:
    locate(recipe.model.source, recipe.model.revision)


def _check_data(recipe: Recipe) -> None:
    check_data(recipe.data, rows_for(recipe.task), tell=output.note)
