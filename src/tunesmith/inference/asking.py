"""From what a prediction is asked to do to its rows, read as the model's training read its own.

a run, its final/, a checkpoint   the run's task, its form and columns, its system message
anything else                     the form that the rows have, for a model that chats or goes on
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.data.asked import AskedRows, asked_rows, trained_reading
from tunesmith.data.fields import TaskName
from tunesmith.data.judgement import Judgement
from tunesmith.data.rows import DataFile
from tunesmith.data.source import find_files
from tunesmith.inference.predict_request import PredictRequest
from tunesmith.recipe.data import ColumnMap, DataPart
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.task import rows_for


def find_run(what: str) -> RunDir | None:
    """Return the run that a model came out of, where it lies in the run's folder."""
    path = Path(what).expanduser().absolute()
    folders = (path, path.parent, path.parent.parent)
    return next((RunDir(one) for one in folders if (one / "resolved.json").is_file()), None)


def recipe_of(run_dir: RunDir | None) -> Recipe | None:
    """Return the recipe of a run."""
    return None if run_dir is None else recipe_from_resolved(run_dir.resolved_json)


def input_files(request: PredictRequest) -> tuple[DataFile, ...]:
    """Return the files to read; raises DataError where there are none."""
    files = find_files(request.input)
    return tuple(replace(file, shown=request.shown) if request.shown else file for file in files)


def rows_to_ask(
    request: PredictRequest, files: tuple[DataFile, ...], task: TaskName | None = None
) -> AskedRows:
    """Return the rows; without a run, for `task` or else for any."""
    run_dir = find_run(request.what)
    recipe = recipe_of(run_dir)
    source = request.shown or request.input
    if run_dir is None or recipe is None:
        return asked_rows(files, _part(DataPart(train=source), request), task, source=source)
    trained = None if request.format else _trained(run_dir)
    part = _part(recipe.data, request, keeps_columns=trained is None and not request.format)
    task = trained.task if trained else rows_for(recipe.task)
    return asked_rows(files, part, task, trained, source=source)


def class_names(run_dir: RunDir | None) -> tuple[str, ...]:
    """Return the classes that a run's written answers may be; none for other tasks."""
    if run_dir is None or not run_dir.reading_json.is_file():
        return ()
    return tuple(read_json(run_dir.reading_json).get("labels", ()))


def _trained(run_dir: RunDir) -> Judgement | None:
    file = run_dir.reading_json
    return trained_reading(read_json(file), file=str(file)) if file.is_file() else None


def _part(part: DataPart, request: PredictRequest, *, keeps_columns: bool = False) -> DataPart:
    """Return how rows are read: as in training, but all of them, with what is asked otherwise."""
    own = part.columns.model_dump(exclude_none=True) if part.columns and keeps_columns else {}
    columns = {**own, **request.columns}
    changes = {
        "limit": None,
        "columns": ColumnMap(**columns) if columns else None,
        "format": request.format or part.format,
        "system": request.system or part.system,
    }
    return part.model_copy(update=changes)
