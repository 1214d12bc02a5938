"""The table as one HTML page that loads nothing.

What was measured stands first, then the usual Yes or No table with each of its errors and the
measurement that shows it, then the bars and costs of each scenario.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tunesmith.core.page import escape, pairs_section, section, write_page
from tunesmith.evaluation.matrix import bars, content, conventional
from tunesmith.evaluation.matrix.document import CellResult, Matrix, ScenarioFacts
from tunesmith.evaluation.matrix.measured import Measured, Side, Value
from tunesmith.evaluation.quantities import bytes_text, duration_text, number_text

TITLE = "What each technique costs and brings"
MORE_STYLE = (
    """
:root { --before: #9aa3ad; --bad: #a33a00; }
@media (prefers-color-scheme: dark) { :root { --before: #7d8792; --bad: #f0a030; } }
main { max-width: 72rem; }
.wide { overflow-x: auto; }
.wide table { min-width: 40rem; }
td small, th small { display: block; font-weight: 400; color: var(--faint); font-size: .75rem; }
td, th { overflow-wrap: normal; }
.better { color: var(--good); }
.worse, .wrong { color: var(--bad); }
.wrong { font-weight: 600; }
.none { color: var(--faint); font-size: .85rem; }
.bars td { vertical-align: middle; }
.bars td:nth-child(2) { width: 45%; }
h3 { font-size: 1rem; font-weight: 600; color: var(--text); margin: 1.5rem 0 .5rem; }
.errors li { margin-bottom: 1rem; }
.errors p { margin: .1rem 0; }
"""
    + bars.STYLE
)


def write_matrix_page(matrix: Matrix) -> str:
    """Return the whole page."""
    body = "\n".join(
        [
            f"<header><h1>{TITLE}</h1><p class=lead>{escape(headline(matrix))}</p></header>",
            section("Measured", _measured_table(matrix)),
            section("The usual table", _usual_table()),
            section("What is wrong with it, and what shows it", _errors(matrix)),
            *(_scenario(matrix, one) for one in matrix.scenarios),
            _missing(matrix),
            _techniques(matrix),
            _rates(matrix),
            pairs_section("How it was measured", _how(matrix)),
        ]
    )
    return write_page(TITLE, body, more_style=MORE_STYLE)


def headline(matrix: Matrix) -> str:
    """Return in a sentence how much of the table has numbers."""
    done = sum(cell.measured is not None for cell in matrix.cells)
    where = str(matrix.machine.get("processor") or "this machine")
    cores = matrix.machine.get("cpu_count")
    where += f", {cores} cores" if cores else ""
    return f"{done} of {len(matrix.cells)} cells measured on {where}, {matrix.date[:10]}."


def _measured_table(matrix: Matrix) -> str:
    names = [technique.name for technique in matrix.techniques]
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in names)
    rows = "".join(_measured_row(matrix, one, names) for one in matrix.scenarios)
    note = (
        "Score before and after on held-out rows, and the 95% interval of the later one. Where a "
        "scenario has no score, the held-out loss in nats per token: lower is better."
    )
    return (
        f"<div class=wide><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody>"
        f"</table></div><p class=note>{note}</p>"
    )


def _measured_row(matrix: Matrix, scenario: ScenarioFacts, names: Sequence[str]) -> str:
    metric = matrix.main_metric(scenario.name)
    cells = "".join(_measured_cell(matrix.cell(scenario.name, name), metric) for name in names)
    what = f"{scenario.kind}, {metric or 'held-out loss'}"
    return (
        f"<tr><th scope=row>{escape(scenario.name)}<small>{escape(what)}</small></th>{cells}</tr>"
    )


def _measured_cell(cell: CellResult | None, metric: str | None) -> str:
    if cell is None:
        return "<td class=none></td>"
    if cell.measured is None:
        return f"<td class=none>{escape(cell.status)}</td>"
    before, after = cell.measured.before, cell.measured.after
    found = content.gain(cell.measured, metric)
    verdict = found.verdict if found else ""
    if metric is None:
        shown = f"{content.loss_text(before.loss)} &rarr; {content.loss_text(after.loss)}"
        small = verdict
    else:
        value = after.metrics.get(metric)
        earlier = content.score_text(before.metrics.get(metric))
        shown = f"{earlier} &rarr; {content.score_text(value)}"
        small = f"{content.interval_text(value, digits=3)}, {verdict}"
    kind = verdict if verdict in ("better", "worse") else "none"
    return f"<td class={kind}>{shown}<small>{escape(small)}</small></td>"


def _usual_table() -> str:
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in conventional.COLUMNS)
    rows = "".join(_usual_row(line) for line in conventional.LINES)
    note = (
        "As it is usually shown. A number names the error below; the first three errors concern "
        "the table as a whole."
    )
    return (
        f"<div class=wide><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody>"
        f"</table></div><p class=note>{note}</p>"
    )


def _usual_row(line: conventional.Line) -> str:
    cells = ""
    for column, says in zip(conventional.COLUMNS, line.says, strict=True):
        word = "Yes" if says else "No"
        numbers = conventional.errors_at(line.name, column)
        marks = "".join(f' <sup><a href="#error-{n}">{n}</a></sup>' for n in numbers)
        cells += f"<td{' class=wrong' if numbers else ''}>{word}{marks}</td>"
    return f"<tr><th scope=row>{escape(line.name)}</th>{cells}</tr>"


def _errors(matrix: Matrix) -> str:
    items = ""
    for shown in conventional.show_errors(matrix):
        line = shown.error.line
        where = f"{line}: " if line else ""
        evidence = "".join(f"<p class=note>{escape(text)}</p>" for text in shown.evidence)
        items += (
            f"<li id=error-{shown.number}>"
            f"<p><strong>{escape(where + shown.error.says)}</strong></p>"
            f"<p>{escape(shown.error.truth)}</p>{evidence}</li>"
        )
    return f"<ol class=errors>{items}</ol>"


def _scenario(matrix: Matrix, scenario: ScenarioFacts) -> str:
    rows = [(c, c.measured) for c in matrix.row(scenario.name) if c.measured is not None]
    if not rows:
        return ""
    metric = matrix.main_metric(scenario.name)
    about = f"{scenario.recipe}: task {scenario.task}, model {scenario.model}"
    return section(
        f"{scenario.name}: {scenario.kind}",
        f"<p class=note>{escape(about)}</p>"
        + _before_after(rows, metric)
        + _costs(rows)
        + _all_scores(rows),
    )


def _before_after(rows: Sequence[tuple[CellResult, Measured]], metric: str | None) -> str:
    sides = [side for _, m in rows for side in (m.before, m.after)]
    values = [_value(side, metric) for side in sides]
    limit = max((value.high or value.value for value in values if value), default=0.0)
    lines = "".join(_bars_row(cell, m, metric, limit) for cell, m in rows)
    what = f"{metric}, higher is better" if metric else "held-out loss, lower is better"
    return (
        f"<h3>Before (grey) and after: {escape(what)}; full width is {limit:.3g}</h3>"
        "<div class=wide><table class=bars><thead><tr><td></td><td></td>"
        "<th scope=col class=number>before</th><th scope=col class=number>after</th>"
        "<th scope=col class=number>difference</th></tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def _bars_row(cell: CellResult, measured: Measured, metric: str | None, limit: float) -> str:
    before, after = (_value(side, metric) for side in (measured.before, measured.after))
    drawn = "".join(
        bars.bar(value.value, limit, kind=kind, interval=(value.low, value.high))
        for value, kind in ((before, "before"), (after, "after"))
        if value is not None
    )
    return (
        f"<tr><th scope=row>{escape(cell.technique)}</th><td>{drawn}</td>"
        f"{_value_cell(before)}{_value_cell(after)}"
        f"<td class=number>{_difference(measured, metric, before, after)}</td></tr>"
    )


def _value_cell(value: Value | None) -> str:
    interval = content.interval_text(value, digits=3)
    small = "" if interval == "-" else f"<small>{interval}</small>"
    return f"<td class=number>{content.score_text(value)}{small}</td>"


def _difference(
    measured: Measured, metric: str | None, before: Value | None, after: Value | None
) -> str:
    """The paired difference with its interval where it was measured, else the plain one."""
    paired = measured.differences.get(metric or "")
    if paired is not None:
        low, high = paired.low or 0.0, paired.high or 0.0
        return f"{paired.value:+.3f}<small>{low:+.3f} to {high:+.3f}, same rows</small>"
    if before is None or after is None:
        return "-"
    return f"{after.value - before.value:+.3f}"


def _value(side: Side, metric: str | None) -> Value | None:
    """The side's main score, or its loss where the scenario has none."""
    if metric is not None:
        return side.metrics.get(metric)
    return None if side.loss is None else Value(value=side.loss, rows=side.rows)


def _costs(rows: Sequence[tuple[CellResult, Measured]]) -> str:
    head = "".join(f"<th scope=col class=number>{escape(name)}</th>" for name, *_ in COSTS)
    limits = [max((read(m) or 0.0 for _, m in rows), default=0.0) for _, read, _ in COSTS]
    lines = "".join(
        f"<tr><th scope=row>{escape(cell.technique)}</th>"
        + "".join(
            f"<td class=number>{escape(show(read(m)))}{bars.bar(read(m), limit, kind='cost')}</td>"
            for (_, read, show), limit in zip(COSTS, limits, strict=True)
        )
        + "</tr>"
        for cell, m in rows
    )
    return (
        f"<h3>Costs</h3><div class=wide><table><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def _all_scores(rows: Sequence[tuple[CellResult, Measured]]) -> str:
    """Every score of the scenario, folded away; nothing where there is one at most."""
    names = list(dict.fromkeys(name for _, m in rows for name in m.after.metrics))
    if len(names) < 2:
        return ""
    head = "".join(f"<th scope=col class=number>{escape(name)}</th>" for name in names)
    lines = "".join(
        f"<tr><th scope=row>{escape(cell.technique)}</th>"
        + "".join(
            f"<td class=number>{content.score_text(m.before.metrics.get(name))} &rarr; "
            f"{content.score_text(m.after.metrics.get(name))}</td>"
            for name in names
        )
        + "</tr>"
        for cell, m in rows
    )
    return (
        "<details><summary>Every score</summary><div class=wide><table><thead><tr><td></td>"
        f"{head}</tr></thead><tbody>{lines}</tbody></table></div></details>"
    )


def _missing(matrix: Matrix) -> str:
    found = content.missing(matrix.cells)
    if not found:
        return ""
    items = "".join(
        f"<li>{escape(content.names_text(one.cells))}: {escape(one.status)}"
        f"<p class=note>{escape(content.reason_text(one.reason, one.status))}"
        + (f". To do: {escape(one.fix)}" if one.fix else "")
        + "</p></li>"
        for one in found
    )
    return section("Not measured", f"<ul>{items}</ul>")


def _techniques(matrix: Matrix) -> str:
    head = "".join(
        f"<th scope=col>{name}</th>" for name in ("method", "base", "strategy", "trains")
    )
    rows = "".join(
        f"<tr><th scope=row>{escape(one.name)}</th><td>{escape(one.method)}</td>"
        f"<td>{escape(one.base or 'as it is')}</td><td>{escape(one.strategy or 'single')}</td>"
        f"<td>{escape(one.trains)}</td></tr>"
        for one in matrix.techniques
    )
    table = f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return section("The techniques", f"<div class=wide>{table}</div>")


def _rates(matrix: Matrix) -> str:
    note = (
        "A rate that a recipe chose for low-rank adapters holds for lora, qlora and dora. Other "
        "methods take their own default, or what --rate gave them."
    )
    rows = ((one.name, ", ".join(content.rates_text(matrix, one.name))) for one in matrix.scenarios)
    inner = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in rows
        if text
    )
    if not inner:
        return ""
    return section("Learning rates", f"<p class=note>{note}</p><table class=pairs>{inner}</table>")


def _how(matrix: Matrix) -> Iterable[tuple[str, str]]:
    machine = matrix.machine
    yield "command", matrix.command
    yield "date", matrix.date
    yield "Tunesmith", matrix.tunesmith
    packages = next((c.measured.packages for c in matrix.cells if c.measured), {})
    if packages:
        yield "packages", ", ".join(f"{name} {version}" for name, version in packages.items())
    for name in ("system", "processor", "cpu_count", "python"):
        if machine.get(name):
            yield name.replace("_", " "), str(machine[name])
    if machine.get("memory_bytes"):
        yield "memory", bytes_text(float(machine["memory_bytes"]))
    yield from (("mind", note) for note in content.notes(matrix))


def _bytes(value: float | None) -> str:
    return "-" if value is None else bytes_text(value)


def _duration(value: float | None) -> str:
    return "-" if value is None else duration_text(value)


def _number(value: float | None) -> str:
    return number_text(value, digits=0)


# A cost's name, how it is read and how it is written.
COSTS: tuple[tuple[str, Callable[[Measured], float | None], Callable[[float | None], str]], ...] = (
    ("trained parameters", lambda m: m.trainable_parameters, _number),
    ("peak memory", lambda m: m.peak_memory_bytes, _bytes),
    ("tokens a second", lambda m: m.tokens_per_second, _number),
    ("time of the steps", lambda m: m.training_seconds, _duration),
    ("time with evaluations", lambda m: m.seconds, _duration),
    ("weights on disk", lambda m: m.weights_bytes, _bytes),
)
