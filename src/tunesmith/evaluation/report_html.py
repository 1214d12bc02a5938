"""The report as one HTML file that loads nothing: pictures and styles are inside.

Its frame and look are those of `core.page`; every piece of text goes through `escape`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunesmith.core.page import escape, pairs_section, section, write_page
from tunesmith.evaluation import report_content as content
from tunesmith.evaluation.report_confusion import ConfusionTable, confusion_table
from tunesmith.evaluation.report_facts import Facts, Row

STYLE = """
.wide { overflow-x: auto; }
.confusion th, .confusion td { overflow-wrap: normal; font-size: .85rem;
 padding: .2rem .6rem .2rem 0; }
.confusion th { font-weight: 400; }
.as-wanted { font-weight: 600; color: var(--good); }
"""


@dataclass(frozen=True)
class Picture:
    """One picture on two grounds; `text` says what it shows to those who do not see it."""

    title: str
    text: str
    light: bytes
    dark: bytes


def write_html(facts: Facts, *, pictures: Sequence[Picture]) -> str:
    """The whole page."""
    title = escape(content.title(facts))
    body = "\n".join(
        [
            f"<header><h1>{title}</h1><p class=lead>{escape(content.headline(facts))}</p></header>",
            *(_picture(picture) for picture in pictures),
            _scores("Before and after", content.scores(facts)),
            _confusion(facts),
            _also_trained(facts),
            _scores(content.TRAINED, content.trained_scores(facts)),
            pairs_section("How it was measured", content.measuring(facts)),
            _answers(facts),
            pairs_section("Training", content.training(facts)),
            pairs_section("Data", content.data(facts)),
            _warnings(facts),
            _next(facts),
            pairs_section("Machine", content.machine(facts)),
            _recipe(facts),
        ]
    )
    return write_page(content.title(facts), body, more_style=STYLE)


def _picture(picture: Picture) -> str:
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data(picture.dark)}">'
        f'<img alt="{escape(picture.text)}" src="{_data(picture.light)}">'
        "</picture></figure>"
    )


def _data(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _also_trained(facts: Facts) -> str:
    sentence = content.overlap_sentence(facts)
    if not sentence:
        return ""
    table = _scores(content.UNTRAINED, content.untrained_scores(facts))
    return f"<p><b>{escape(sentence)}</b></p>{table}"


def _scores(title: str, lines: Sequence[content.Score]) -> str:
    if not lines:
        return ""
    rows = "".join(
        f"<tr{' class=detail' if line.is_detail else ''}><th scope=row>{escape(line.name)}"
        + (f"<small>{escape(line.note)}</small>" if line.note else "")
        + f"</th><td class=number>{escape(line.before)}</td>"
        f"<td class=number>{escape(line.after)}</td></tr>"
        for line in lines
    )
    head = (
        "<tr><td></td><th scope=col class=number>before</th><th scope=col class=number>after</th>"
    )
    note = ""
    if any("(" in line.before + line.after for line in lines):
        note = "<p class=note>In brackets: the 95% interval, in percent where the score is.</p>"
    return section(title, f"<table><thead>{head}</thead>{rows}</table>{note}")


def _confusion(facts: Facts) -> str:
    table = confusion_table(facts)
    if table is None:
        return ""
    note = f"<p class=note>{escape(table.note)}</p>"
    if not table.rows:
        return section(table.title, note)
    words = 1 if table.is_matrix else 2  # columns of text, before those of numbers
    head = "".join(
        f"<th scope=col{' class=number' if place >= words else ''}>{escape(name)}</th>"
        for place, name in enumerate(table.head)
    )
    rows = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>{_cells(row, number, table)}</tr>"
        for number, row in enumerate(table.rows, 1)
    )
    inner = f"<table class=confusion><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return section(table.title, f"<div class=wide>{inner}</div>{note}")


def _cells(row: Sequence[str], number: int, table: ConfusionTable) -> str:
    """The cells behind a row's head; what is right stands on the diagonal of a matrix."""
    cells: list[str] = []
    for place, text in enumerate(row[1:], 1):
        kinds = ["number"] if table.is_matrix or place > 1 else []
        kinds += ["as-wanted"] if table.is_matrix and place == number else []
        cells.append(f'<td class="{" ".join(kinds)}">{escape(text)}</td>')
    return "".join(cells)


def _answers(facts: Facts) -> str:
    if not facts.rows:
        return ""
    rows = "".join(_answer(row) for row in facts.rows)
    return section("Answers side by side", f"<div class=answers>{rows}</div>")


def _answer(row: Row) -> str:
    sides = (
        ("asked", row.prompt, ""),
        ("wanted", row.reference, ""),
        ("before", row.before, _mark(row.before, row.reference, is_cut=row.before_is_cut)),
        ("after", row.after, _mark(row.after, row.reference, is_cut=row.after_is_cut)),
    )
    blocks = "".join(
        f"<dt>{name}{mark}</dt><dd>{escape(text) or '<i>(nothing)</i>'}</dd>"
        for name, text, mark in sides
        if text is not None
    )
    return f"<article><h3>{escape(row.row_id)}</h3><dl>{blocks}</dl></article>"


def _mark(text: str | None, reference: str, *, is_cut: bool) -> str:
    if text is not None and text.strip() == reference.strip():
        return " <b class=same>as wanted</b>"
    return " <small>cut at the limit</small>" if is_cut else ""


def _warnings(facts: Facts) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in facts.warnings)
    return section("Warnings", f"<ul>{items}</ul>") if items else ""


def _next(facts: Facts) -> str:
    commands = "".join(
        f"<p>{escape(name)}</p><pre>{escape(text)}</pre>"
        for name, text in content.next_commands(facts)
    )
    example = f"<p>Use it from Python</p><pre>{escape(content.python_example(facts))}</pre>"
    return section("How to go on", commands + example)


def _recipe(facts: Facts) -> str:
    rows = content.recipe(facts)
    if not rows:
        return ""
    return section(
        "The recipe as it was run",
        "<details><summary>Every value, and where it came from</summary>"
        "<table class=recipe><thead><tr><th scope=col>value</th><td></td>"
        f"<th scope=col>from</th></tr></thead>{''.join(_recipe_rows(rows))}</table></details>"
        + _recipe_file(facts),
    )


def _recipe_rows(rows: Iterable[tuple[str, str, str]]) -> Iterable[str]:
    for path, value, origin in rows:
        cells = f"<td>{escape(value)}</td><td>{escape(origin)}</td>"
        yield f"<tr><th scope=row>{escape(path)}</th>{cells}</tr>"


def _recipe_file(facts: Facts) -> str:
    if not facts.recipe_text.strip():
        return ""
    text = f"<pre>{escape(facts.recipe_text)}</pre>"
    return f"<details><summary>The file as it was given</summary>{text}</details>"
