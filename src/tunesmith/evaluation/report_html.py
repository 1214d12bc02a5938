"""The report as one HTML file that loads nothing: pictures and styles are inside.

Text of rows, recipes and paths comes from strangers; every piece goes through `_text`, and the page
forbids scripts and requests by a policy of its own.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunesmith.evaluation import report_content as content
from tunesmith.evaluation.report_facts import Facts, Row


@dataclass(frozen=True)
class Picture:
    """One picture on two grounds; `text` says what it shows to those who do not see it."""

    title: str
    text: str
    light: bytes
    dark: bytes


def write_html(facts: Facts, *, pictures: Sequence[Picture]) -> str:
    """The whole page."""
    title = _text(content.title(facts))
    body = "\n".join(
        [
            f"<header><h1>{title}</h1><p class=lead>{_text(content.headline(facts))}</p></header>",
            *(_picture(picture) for picture in pictures),
            _scores(facts),
            _answers(facts),
            _pairs("Training", content.training(facts)),
            _pairs("Data", content.data(facts)),
            _warnings(facts),
            _next(facts),
            _pairs("Machine", content.machine(facts)),
            _recipe(facts),
        ]
    )
    return PAGE.format(title=title, style=STYLE, body=body)


def _picture(picture: Picture) -> str:
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data(picture.dark)}">'
        f'<img alt="{_text(picture.text)}" src="{_data(picture.light)}">'
        "</picture></figure>"
    )


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _scores(facts: Facts) -> str:
    lines = content.scores(facts)
    if not lines:
        return ""
    rows = "".join(
        f"<tr{' class=detail' if line.is_detail else ''}><th scope=row>{_text(line.name)}"
        + (f"<small>{_text(line.note)}</small>" if line.note else "")
        + f"</th><td class=number>{_text(line.before)}</td>"
        f"<td class=number>{_text(line.after)}</td></tr>"
        for line in lines
    )
    head = (
        "<tr><td></td><th scope=col class=number>before</th><th scope=col class=number>after</th>"
    )
    note = ""
    if any(metric.before_interval or metric.after_interval for metric in facts.metrics):
        note = "<p class=note>In brackets: the 95% interval, in percent.</p>"
    return _section("Before and after", f"<table><thead>{head}</thead>{rows}</table>{note}")


def _answers(facts: Facts) -> str:
    if not facts.rows:
        return ""
    rows = "".join(_answer(row) for row in facts.rows)
    return _section("Answers side by side", f"<div class=answers>{rows}</div>")


def _answer(row: Row) -> str:
    sides = (
        ("asked", row.prompt, ""),
        ("wanted", row.reference, ""),
        ("before", row.before, _mark(row.before, row.reference, is_cut=row.before_is_cut)),
        ("after", row.after, _mark(row.after, row.reference, is_cut=row.after_is_cut)),
    )
    blocks = "".join(
        f"<dt>{name}{mark}</dt><dd>{_text(text) or '<i>(nothing)</i>'}</dd>"
        for name, text, mark in sides
        if text is not None
    )
    return f"<article><h3>{_text(row.row_id)}</h3><dl>{blocks}</dl></article>"


def _mark(text: str | None, reference: str, *, is_cut: bool) -> str:
    if text is not None and text.strip() == reference.strip():
        return " <b class=same>as wanted</b>"
    return " <small>cut at the limit</small>" if is_cut else ""


def _pairs(title: str, pairs: content.Pairs) -> str:
    if not pairs:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{_text(name)}</th><td>{_text(text)}</td></tr>" for name, text in pairs
    )
    return _section(title, f"<table class=pairs>{rows}</table>")


def _warnings(facts: Facts) -> str:
    items = "".join(f"<li>{_text(text)}</li>" for text in facts.warnings)
    return _section("Warnings", f"<ul>{items}</ul>") if items else ""


def _next(facts: Facts) -> str:
    commands = "".join(
        f"<p>{_text(name)}</p><pre>{_text(text)}</pre>"
        for name, text in content.next_commands(facts)
    )
    example = f"<p>Use it from Python</p><pre>{_text(content.python_example(facts))}</pre>"
    return _section("How to go on", commands + example)


def _recipe(facts: Facts) -> str:
    rows = content.recipe(facts)
    if not rows:
        return ""
    return _section(
        "The recipe as it was run",
        "<details><summary>Every value, and where it came from</summary>"
        "<table class=recipe><thead><tr><th scope=col>value</th><td></td>"
        f"<th scope=col>from</th></tr></thead>{''.join(_recipe_rows(rows))}</table></details>"
        + _recipe_file(facts),
    )


def _recipe_rows(rows: Iterable[tuple[str, str, str]]) -> Iterable[str]:
    for path, value, origin in rows:
        cells = f"<td>{_text(value)}</td><td>{_text(origin)}</td>"
        yield f"<tr><th scope=row>{_text(path)}</th>{cells}</tr>"


def _recipe_file(facts: Facts) -> str:
    if not facts.recipe_text.strip():
        return ""
    text = f"<pre>{_text(facts.recipe_text)}</pre>"
    return f"<details><summary>The file as it was given</summary>{text}</details>"


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{_text(title)}</h2>{inner}</section>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { --ground: #fff; --text: #1b1f24; --faint: #5d6670; --line: #e3e6ea; --soft: #f5f6f8;
 --good: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --text: #e8eaed;
 --faint: #a3abb4; --line: #2c3138; --soft: #1d2126; --good: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
 font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: .8rem; font-weight: 400; color: var(--faint); margin: 0 0 .5rem;
 overflow-wrap: anywhere; }
.lead { font-size: 1.1rem; margin: 0; }
figure { margin: 2rem 0 0; }
img { display: block; width: 100%; max-width: 44rem; height: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); text-align: left;
 vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; }
thead th, thead td { color: var(--faint); font-weight: 400; font-size: .85rem; }
.pairs th { font-weight: 400; color: var(--faint); width: 14rem; }
.recipe { font-size: .85rem; margin-top: .75rem; }
.recipe th { font-weight: 400; }
.recipe td:last-child { color: var(--faint); padding-right: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number:last-child, th.number:last-child { padding-right: 0; }
th small { display: block; font-weight: 400; color: var(--faint); }
.detail th { font-weight: 400; color: var(--faint); padding-left: 1.25rem; }
.note { color: var(--faint); font-size: .85rem; }
.answers { display: grid; gap: 1rem; }
article { background: var(--soft); border-radius: .5rem; padding: 1rem; }
dl { display: grid; grid-template-columns: 5.5rem 1fr; gap: .5rem .75rem; margin: 0; }
dt { color: var(--faint); }
dt small { display: block; font-size: .75rem; }
dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.same { display: block; font-size: .75rem; font-weight: 600; color: var(--good); }
pre { background: var(--soft); border-radius: .5rem; padding: .75rem 1rem; overflow-x: auto;
 font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace; margin: .25rem 0 1rem; }
section > p { margin: 0; }
summary { cursor: pointer; color: var(--good); }
details { margin-bottom: .75rem; }
@media (max-width: 34rem) {
 dl { grid-template-columns: 1fr; gap: .1rem; }
 dd { margin-bottom: .6rem; }
 .pairs th { width: 9rem; }
 .same, dt small { display: inline; }
}
@media print { article, pre { background: none; border: 1px solid var(--line); } }
"""
