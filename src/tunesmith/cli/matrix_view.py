"""The measured table on a terminal: a block for each scenario, 80 columns wide, without colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tunesmith.cli import output
from tunesmith.cli.quantities import bytes_text, duration_text
from tunesmith.evaluation.matrix import content
from tunesmith.evaluation.matrix.document import Matrix, ScenarioFacts
from tunesmith.evaluation.matrix.measured import Measured, Side

HEADERS = ("", "score", "95%", "loss", "trained", "memory", "tok/s", "time", "disk")
NUMBERS = tuple(range(1, len(HEADERS)))
NOTHING = ("-",) * 5


def show_matrix(matrix: Matrix, stale: Mapping[str, Sequence[str]] | None = None) -> None:
    """Print the table, what is not measured and why, and what to mind.

    Args:
        matrix: The table.
        stale: Folders of earlier runs with other settings, by the cell's name.
    """
    for scenario in matrix.scenarios:
        _show_scenario(matrix, scenario)
    _show_missing(matrix)
    for text in [*content.notes(matrix), *_stale_texts(stale or {})]:
        output.say(f"mind: {text}")
    _show_legend(matrix)


def show_plan(matrix: Matrix) -> None:
    """Print every cell with where it stands and the learning rate that it has or would have."""
    rows = [
        (
            cell.name,
            cell.status,
            "-" if cell.learning_rate is None else f"{cell.learning_rate:g}",
            cell.rate_origin if cell.learning_rate is not None else "",
        )
        for scenario in matrix.scenarios
        for cell in matrix.row(scenario.name)
    ]
    output.show_table(rows, ("cell", "status", "learning rate", ""), title="The cells")
    output.say()


def rows_of(matrix: Matrix, scenario: str) -> list[tuple[str, ...]]:
    """Return a scenario's lines: what it starts from, then each technique that was measured."""
    metric = matrix.main_metric(scenario)
    starts = [
        (start.label, *_score(start.side, metric), *NOTHING)
        for start in content.untuned(matrix, scenario)
    ]
    cells = [
        (cell.technique, *_score(cell.measured.after, metric), *_costs(cell.measured))
        for cell in matrix.row(scenario)
        if cell.measured is not None
    ]
    return [*starts, *cells]


def _show_scenario(matrix: Matrix, scenario: ScenarioFacts) -> None:
    rows = rows_of(matrix, scenario.name)
    if not rows:
        return
    metric = matrix.main_metric(scenario.name)
    title = f"{scenario.name}: {scenario.kind}, {metric or 'no score, loss alone'}"
    output.show_table(rows, HEADERS, title=title, right=NUMBERS)
    for text in _wrapped(content.rates_text(matrix, scenario.name), "rates: "):
        output.say(text)
    output.say()


def _score(side: Side, metric: str | None) -> tuple[str, str, str]:
    value = side.metrics.get(metric) if metric else None
    return content.score_text(value), content.interval_text(value), content.loss_text(side.loss)


def _costs(measured: Measured) -> tuple[str, ...]:
    speed = measured.tokens_per_second
    return (
        content.short_count(measured.trainable_parameters),
        _bytes(measured.peak_memory_bytes),
        "-" if speed is None else f"{speed:.0f}",
        "-" if measured.training_seconds is None else duration_text(measured.training_seconds),
        _bytes(measured.weights_bytes),
    )


def _show_missing(matrix: Matrix) -> None:
    found = content.missing(matrix.cells)
    if not found:
        return
    output.say("Not measured", style="bold")
    for one in found:
        output.say(f"  {one.status}: {content.names_text(one.cells)}")
        reason = content.reason_text(one.reason, one.status)
        output.say(f"    {reason.splitlines()[0] if reason else ''}")
        if one.fix:
            output.say(f"    to do: {one.fix}")
    output.say()


def _show_legend(matrix: Matrix) -> None:
    if any(cell.measured for cell in matrix.cells):
        output.say("score, its 95% interval and the loss (nats): on held-out rows, after training;")
        output.say("time: of the steps; disk: the weights that were saved")


def _stale_texts(stale: Mapping[str, Sequence[str]]) -> Iterable[str]:
    for name, folders in stale.items():
        kept = ", ".join(folders)
        yield f"{name} was measured with other settings before ({kept}), which does not count now"


def _wrapped(parts: Sequence[str], start: str, *, width: int = 78) -> Iterable[str]:
    """Yield lines that hold as many parts as fit."""
    line = ""
    for part in parts:
        if line and len(line) + len(part) + 2 > width:
            yield f"{line},"
            line = " " * len(start) + part
        else:
            line = f"{line}, {part}" if line else start + part
    if line:
        yield line


def _bytes(count: float | None) -> str:
    """`1.2G`: units of 1024, as short as the column is."""
    if count is None:
        return "-"
    return bytes_text(count).replace(" ", "").replace("iB", "")
