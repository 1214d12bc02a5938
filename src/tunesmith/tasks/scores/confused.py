"""Which classes were taken for which: all of them where they are few, else the commonest mistakes.

labels, counts   how often each class (a row) was answered as each (a column); the last column
                 counts answers that are no class
pairs            right, said (None for no class), rows, and of how many rows of the class
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.recipe.task import ClassificationTask, Task
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.classes import Label, confusion
from tunesmith.tasks.scores.score import Array

MOST_CLASSES = 20
MOST_PAIRS = 20


def confusion_of(task: Task, rows: Sequence[Said]) -> dict[str, Any] | None:
    """Return what was taken for what, as JSON; None where a text has not one class."""
    if not isinstance(task, ClassificationTask) or task.multi_label or not rows:
        return None
    said: list[Label] = [row.said[0] if row.said else None for row in rows]
    labels, counts = confusion(said, [row.right[0] for row in rows])
    found: dict[str, Any] = {"classes": len(labels), "pairs": _pairs(labels, counts)}
    if len(labels) <= MOST_CLASSES:
        found |= {"labels": labels, "counts": counts.astype(int).tolist()}
    return found


def _pairs(labels: Sequence[str], counts: Array) -> list[dict[str, Any]]:
    """Return the commonest mistakes; of equally common ones the first in the labels' order."""
    names: list[Label] = [*labels, None]
    mistakes: list[dict[str, Any]] = [
        {"right": right, "said": said, "rows": int(row[place]), "of": int(row.sum())}
        for right, row in zip(labels, counts, strict=True)
        for place, said in enumerate(names)
        if said != right and row[place]
    ]
    return sorted(mistakes, key=lambda one: -one["rows"])[:MOST_PAIRS]
