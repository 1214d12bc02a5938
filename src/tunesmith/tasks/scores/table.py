"""Which scores a task has, and which libraries they need.

Each task has scores of its own, which are always measured; the recipe may ask for further ones, of
its answers as texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from tunesmith.core.errors import Fault, MachineError
from tunesmith.recipe.evaluation import TEXT_METRICS, own_metrics
from tunesmith.recipe.task import Task
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.answers import ANSWERS
from tunesmith.tasks.scores.classes import SEVERAL, SINGLE
from tunesmith.tasks.scores.entities import ENTITIES
from tunesmith.tasks.scores.row_values import row_metrics
from tunesmith.tasks.scores.score import Difference, Metric, Score, difference, score, share_of
from tunesmith.tasks.scores.summaries import SUMMARIES
from tunesmith.tasks.scores.texts import TEXTS
from tunesmith.tasks.scores.translation import TRANSLATION

FAMILIES: Mapping[str, Mapping[str, Metric]] = {
    "classification": SINGLE,
    "several": SEVERAL,
    "ner": ENTITIES,
    "qa": ANSWERS,
    "translation": TRANSLATION,
    "summarization": SUMMARIES,
}
# The module of a library, by the scores that need it; all are in the extra `eval`.
MODULES = {
    "entity-f1": "seqeval",
    **dict.fromkeys(TRANSLATION, "sacrebleu"),
    **dict.fromkeys(SUMMARIES, "rouge_score"),
}
FOUND_IN_TEXT = "entities-in-text"


def family_of(task: Task) -> str:
    """Return the name of the scores that a task has."""
    several = task.type == "classification" and task.multi_label
    return "several" if several else task.type


def require_libraries(task: Task, names: Sequence[str]) -> None:
    """Raise a MachineError where a score's library is not installed."""
    own = own_metrics(task)
    faults = [
        Fault(
            found=f"{MODULES[name]}, which computes {name}, is not installed",
            where=f"recipe: task: {task.type}" if name in own else "recipe: evaluation.metrics",
            fix="install it with: pip install 'tunesmith[eval]'",
        )
        for name in (*own, *names)
        if name in MODULES and find_spec(MODULES[name]) is None
    ]
    if faults:
        raise MachineError(faults)


def scores_of(task: Task, names: Sequence[str], rows: Sequence[Said]) -> dict[str, Score]:
    """Score what was said: the task's own scores, and those of texts that are asked for."""
    if not rows:
        return {}
    found: dict[str, Score] = {}
    for family, metric in _metrics(task, names, rows):
        found[metric.name] = score(metric, *_sides(family, rows))
    if task.type == "ner" and any(row.lost for row in rows):
        found[FOUND_IN_TEXT] = share_of([not row.lost for row in rows])
    return found


def differences_of(
    task: Task, names: Sequence[str], before: Sequence[Said], after: Sequence[Said]
) -> dict[str, Difference]:
    """How much better each score became; empty where the two sides are not the same rows."""
    return _differences(_metrics(task, names, after), before, after)


def row_differences(before: Sequence[Said], after: Sequence[Said]) -> dict[str, Difference]:
    """The same of the scores that each row has by itself, whatever the task."""
    return _differences([("values", metric) for metric in row_metrics(after)], before, after)


def _differences(
    metrics: Sequence[tuple[str, Metric]], before: Sequence[Said], after: Sequence[Said]
) -> dict[str, Difference]:
    if not after or [row.row_id for row in before] != [row.row_id for row in after]:
        return {}
    found: dict[str, Difference] = {}
    for family, metric in metrics:
        earlier, _ = _sides(family, before)
        later, right = _sides(family, after)
        found[metric.name] = difference(metric, earlier, later, right)
    return found


def _metrics(task: Task, names: Sequence[str], rows: Sequence[Said]) -> list[tuple[str, Metric]]:
    family = family_of(task)
    own = [(family, FAMILIES[family][name]) for name in own_metrics(task)]
    texts = [("text", TEXTS[name]) for name in names if name in TEXT_METRICS]
    return [*own, *texts, *(("values", metric) for metric in row_metrics(rows))]


def _sides(family: str, rows: Sequence[Said]) -> tuple[Sequence[object], Sequence[object]]:
    match family:
        case "classification":
            said = [row.said[0] if row.said else None for row in rows]
            return said, [row.right[0] for row in rows]
        case "several":
            return [frozenset(row.said) for row in rows], [frozenset(row.right) for row in rows]
        case "ner":
            return [row.said for row in rows], [row.right for row in rows]
        case "values":
            return rows, rows
        case "qa":
            return [row.said[0] for row in rows], [row.right for row in rows]
        case _:
            said = ["".join(row.said[:1]) for row in rows]
            return said, ["".join(row.right[:1]) for row in rows]
