"""What the table says, in words that the terminal and the page share. Pure: a document in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tunesmith.evaluation.matrix.document import CellResult, Matrix, Status
from tunesmith.evaluation.matrix.measured import Measured, Side, Value

Verdict = Literal["better", "worse", "not told apart"]
By = Literal["paired difference", "intervals", "loss alone"]
WITHOUT_NUMBERS: tuple[Status, ...] = ("failed", "stopped", "refused", "waiting")
LOSS_DIGITS = 3
# Losses that differ by less than this share come from rounding, not from another model.
SAME_LOSS = 0.002
# Above this share of the processors' time, other work makes speeds hard to compare.
BUSY = 0.1


@dataclass(frozen=True)
class Untuned:
    """A base before training: the same for all techniques of a scenario that leave it as it is."""

    label: str
    side: Side


@dataclass(frozen=True)
class Gain:
    """Whether a technique made a scenario's score better, and by what that is told."""

    verdict: Verdict
    by: By


@dataclass(frozen=True)
class Missing:
    """Cells without numbers that have one reason in common."""

    status: Status
    cells: tuple[str, ...]
    reason: str
    fix: str


def untuned(matrix: Matrix, scenario: str) -> list[Untuned]:
    """Return what the techniques of a scenario start from, each once.

    A base that is kept in fewer bits starts elsewhere, so it has a line of its own. A head in fp32
    beside one in bf16 differs in the last digits of the loss, which is no other start.
    """
    metric = matrix.main_metric(scenario)
    bases = {technique.name: technique.base for technique in matrix.techniques}
    starts: list[Untuned] = []
    for cell in matrix.row(scenario):
        if cell.measured is None or not _has_numbers(cell.measured.before):
            continue
        side = cell.measured.before
        if any(_is_one_start(side, start.side, metric) for start in starts):
            continue
        label = f"untuned {bases[cell.technique] or cell.technique}" if starts else "untuned"
        starts.append(Untuned(label, side))
    return starts


def gain(measured: Measured, metric: str | None) -> Gain | None:
    """Return whether the score became better; None where one side was not measured.

    A paired difference whose interval leaves out zero says so, then intervals that do not meet. Of
    a loss there is no interval: it only became lower or higher.
    """
    before, after = measured.before, measured.after
    if metric is None:
        if before.loss is None or after.loss is None:
            return None
        return Gain("better" if after.loss < before.loss else "worse", "loss alone")
    paired = measured.differences.get(metric)
    if paired is not None and paired.low is not None and paired.high is not None:
        return Gain(_side_of_zero(paired.low, paired.high), "paired difference")
    old, new = before.metrics.get(metric), after.metrics.get(metric)
    if old is None or new is None:
        return None
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return Gain("not told apart", "intervals")
    return Gain(_side_of_zero(new.low - old.high, new.high - old.low), "intervals")


def missing(cells: Iterable[CellResult]) -> list[Missing]:
    """Return the cells without numbers, those of one reason together, failures first."""
    groups: dict[tuple[Status, str, str], list[str]] = {}
    for cell in cells:
        if cell.measured is None:
            first = cell.reasons[0] if cell.reasons else None
            key = (cell.status, first.found if first else "", first.fix if first else "")
            groups.setdefault(key, []).append(cell.name)
    ordered = sorted(groups.items(), key=lambda item: WITHOUT_NUMBERS.index(item[0][0]))
    return [Missing(status, tuple(names), reason, fix) for (status, reason, fix), names in ordered]


def notes(matrix: Matrix) -> list[str]:
    """Return what makes cells hard to compare: unlike budgets or versions, other work."""
    said: list[str] = []
    for scenario in matrix.scenarios:
        rows = [cell for cell in matrix.row(scenario.name) if cell.measured is not None]
        for name in ("steps", "rows_used"):
            values = {cell.technique: getattr(cell.measured, name) for cell in rows}
            known = {technique: value for technique, value in values.items() if value is not None}
            if len(set(known.values())) > 1:
                shown = ", ".join(f"{technique} {value:,}" for technique, value in known.items())
                words = name.replace("_", " ")
                said.append(f"{scenario.name}: cells of unlike budgets ({words}: {shown})")
    busy = [cell for cell in matrix.cells if cell.measured and (cell.busy or 0) > BUSY]
    if busy:
        shares = ", ".join(f"{cell.name} {cell.busy:.0%}" for cell in busy)
        said.append(
            "others used the processors when these began, so their speeds and times say little: "
            + shares
        )
    measured = [cell.measured for cell in matrix.cells if cell.measured is not None]
    versions = sorted({one.tunesmith for one in measured if one.tunesmith is not None})
    if len(versions) > 1:
        said.append(f"measured with more than one version of Tunesmith: {', '.join(versions)}")
    return said


def rates_text(matrix: Matrix, scenario: str) -> list[str]:
    """Return each learning rate with where it comes from: `lora 0.001 (the recipe's)`."""
    return [
        f"{cell.technique} {cell.learning_rate:g} ({cell.rate_origin})"
        for cell in matrix.row(scenario)
        if cell.learning_rate is not None
    ]


def reason_text(reason: str, status: Status) -> str:
    """Return why a cell has no numbers."""
    return reason or {"waiting": "not measured yet", "stopped": "stopped early"}.get(status, "")


def names_text(names: Iterable[str]) -> str:
    """Return cells with those of the same rows together: `deepspeed, zero-3 of alpaca, xquad`."""
    by_technique: dict[str, list[str]] = {}
    for name in names:
        scenario, _, technique = name.rpartition(":")
        by_technique.setdefault(technique, []).append(scenario)
    by_rows: dict[tuple[str, ...], list[str]] = {}
    for technique, scenarios in by_technique.items():
        by_rows.setdefault(tuple(scenarios), []).append(technique)
    return "; ".join(f"{', '.join(some)} of {', '.join(rows)}" for rows, some in by_rows.items())


def score_text(value: Value | None) -> str:
    """Return a score; a dash where it was not measured."""
    return "-" if value is None else f"{value.value:.3f}"


def interval_text(value: Value | None, *, digits: int = 2) -> str:
    """Return a score's interval; a dash where it has none."""
    if value is None or value.low is None or value.high is None:
        return "-"
    return f"{value.low:.{digits}f}-{value.high:.{digits}f}"


def loss_text(loss: float | None) -> str:
    """Return a loss; a dash where it was not measured."""
    return "-" if loss is None else f"{loss:.{LOSS_DIGITS}f}"


def short_count(number: float | None) -> str:
    """134515008 -> `134.5M`; a dash where it was not measured."""
    if number is None:
        return "-"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.1f}{unit}"
    return f"{number:.0f}"


def _has_numbers(side: Side) -> bool:
    return side.loss is not None or bool(side.metrics)


def _is_one_start(one: Side, other: Side, metric: str | None) -> bool:
    scores = [score_text(side.metrics.get(metric or "")) for side in (one, other)]
    if scores[0] != scores[1] or (one.loss is None) != (other.loss is None):
        return False
    return math.isclose(one.loss or 0.0, other.loss or 0.0, rel_tol=SAME_LOSS)


def _side_of_zero(low: float, high: float) -> Verdict:
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not told apart"
