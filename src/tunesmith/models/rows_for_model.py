"""What rows are read for, where that depends on the model."""

from __future__ import annotations

from pathlib import Path

from tunesmith.models.facts import is_decoder, model_type, require_writer
from tunesmith.recipe.task import Task, TaskName, has_head, rows_for


def rows_for_model(task: Task, folder: Path) -> TaskName:
    """Return what rows are read for by a folder's model.

    Raises:
        ModelError: it writes no text, and the task has no head.
    """
    rows_are_for = rows_for(task)
    if not has_head(task):
        require_writer(folder)
    elif rows_are_for == "ner-head" and is_decoder(model_type(folder)):
        return "ner-head-causal"
    return rows_are_for
