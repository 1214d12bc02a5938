"""The X-ray as one HTML page that loads nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tunesmith.core.page import escape, section, write_page
from tunesmith.data.xray import token_view
from tunesmith.data.xray.facts import SideXRay, Verdict, XRay
from tunesmith.data.xray.lengths import Lengths
from tunesmith.data.xray.numbers import clusters_text, headline, label_lines, numbers
from tunesmith.data.xray.overlap import Overlap, RowPair, RowText
from tunesmith.data.xray.token_view import ShownRow

TITLE = "What will be trained"


def xray_page(
    xray: XRay, rows: Sequence[ShownRow] = (), control_ids: Collection[int] = frozenset()
) -> str:
    """Return the page; `rows` are shown as tokens, those in `control_ids` as chips."""
    body = "\n".join(
        [
            f"<header><h1>{TITLE}</h1><p class=lead>{escape(headline(xray))}</p></header>",
            _verdicts(xray.verdicts),
            _numbers(xray),
            *(_lengths(name, side, xray.max_length) for name, side in xray.sides.items()),
            *(_labels(name, side) for name, side in xray.sides.items()),
            *(_overlap(overlap) for overlap in xray.overlaps),
            *(_near(name, side) for name, side in xray.sides.items()),
            _dropped(xray),
            _notes(xray),
            _tokens(rows, control_ids),
        ]
    )
    page = write_page(TITLE, body, more_style=token_view.STYLE + STYLE)
    # Half of a character that is written in two cannot be part of a file.
    return page.encode("utf-8", "replace").decode("utf-8")


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "<p class=verdict>Nothing in these rows stands out as wrong.</p>"
    return "".join(
        f'<p class="verdict {verdict.severity}"><b>{verdict.severity.capitalize()}:</b> '
        f"{escape(verdict.sentence)}.<br><small>{escape(verdict.remedy)}.</small></p>"
        for verdict in verdicts
    )


def _numbers(xray: XRay) -> str:
    heads = "".join(f"<th scope=col class=number>{escape(name)}</th>" for name in xray.sides)
    rows = "".join(
        f"<tr{' class=detail' if line.name.startswith(' ') else ''}>"
        f"<th scope=row>{escape(line.name.strip())}</th>"
        + "".join(f"<td class=number>{escape(cell)}</td>" for cell in line.cells)
        + "</tr>"
        for line in numbers(xray)
    )
    about = f"Task {xray.task}, form {xray.format}, rows that are too long: {xray.overflow}."
    serving = ""
    if xray.serving is not None:
        serving = f" Training against serving: {xray.serving.summary}."
    return section(
        "Numbers",
        f"<div class=wide><table><thead><tr><td></td>{heads}</tr></thead>{rows}</table></div>"
        f"<p class=note>{escape(about + serving)}</p>",
    )


def _tokens(rows: Sequence[ShownRow], control_ids: Collection[int]) -> str:
    if not rows:
        return ""
    key = (
        "<p class=note>Each frame is a token; its number and weight show when it is pointed at. "
        "<span class=tokens><span class=t>Trained</span> <span>not trained</span> "
        "<span class=k>control token</span></span></p>"
    )
    views = "".join(token_view.token_view(row, control_ids) for row in rows)
    return section("The first rows, token by token", f"{key}<div class=answers>{views}</div>")


def _lengths(name: str, side: SideXRay, max_length: int) -> str:
    if side.lengths is None:
        return ""
    return section(f"Lengths in tokens, {name}", _histogram(side.lengths, max_length))


def _histogram(lengths: Lengths, max_length: int) -> str:
    """Draw a bar for each bin, and the length limit as a line between the bars it divides."""
    most = max(bin.rows for bin in lengths.histogram)
    limit = f"<tr class=limit><th colspan=3 scope=row>data.max_length {max_length:,}</th></tr>"
    rows: list[str] = []
    is_limit_drawn = False
    for bin in lengths.histogram:
        if bin.high > max_length and not is_limit_drawn:
            rows.append(limit)
            is_limit_drawn = True
        rows.append(
            _bar(f"{bin.low:,}-{bin.high:,}", bin.rows, most, is_faint=bin.low > max_length)
        )
    if not is_limit_drawn:
        rows.append(limit)
    return f"<table class=bars>{''.join(rows)}</table>"


def _bar(name: str, rows: int, most: int, *, is_faint: bool = False) -> str:
    width = min(100, 100 * rows / most) if most else 0  # all other labels may be more than one
    kind = "bar over" if is_faint else "bar"
    return (
        f"<tr><th scope=row>{escape(name)}</th>"
        f'<td class=scale><div class="{kind}" style="width:{width:.1f}%"></div></td>'
        f"<td class=number>{rows:,}</td></tr>"
    )


def _labels(name: str, side: SideXRay) -> str:
    if side.labels is None:
        return ""
    most = side.labels.most_frequent[0].rows
    bars = "".join(_bar(label, rows, most) for label, rows in label_lines(side.labels))
    return section(f"Labels, {name}", f'<table class="bars labels">{bars}</table>')


def _overlap(overlap: Overlap) -> str:
    if not overlap.exact + overlap.near:
        return ""
    counts = (
        f"<p>Rows of {overlap.side} that are also in {overlap.other}: {overlap.exact:,}; "
        f"that are nearly the same as one there: {overlap.near:,}.</p>"
    )
    pairs = (*overlap.exact_pairs, *overlap.near_pairs)
    return section(f"In {overlap.side} and in {overlap.other}", counts + _pairs(pairs))


def _near(name: str, side: SideXRay) -> str:
    if side.near is None or not side.near.rows:
        return ""
    counts = (
        f"<p>{side.near.rows:,} rows nearly repeat another: {clusters_text(side.near)}, the "
        f"largest of {side.near.largest:,} rows.</p>"
    )
    return section(f"Near-duplicates in {name}", counts + _pairs(side.near.pairs))


def _pairs(pairs: Iterable[RowPair]) -> str:
    shown = "".join(
        f"<article><h3>about {pair.similarity:.0%} in common</h3><div class=pair>"
        f"{_row(pair.first)}{_row(pair.second)}</div></article>"
        for pair in pairs
    )
    return f"<div class=answers>{shown}</div>" if shown else ""


def _row(row: RowText) -> str:
    more = f" <small>({row.hidden:,} more characters)</small>" if row.hidden else ""
    return f"<div><h3>{escape(row.row_id)}</h3><p>{escape(row.text)}{more}</p></div>"


def _dropped(xray: XRay) -> str:
    if not xray.dropped:
        return ""
    rows = "".join(
        f"<tr><th scope=row>{escape(dropped.reason)}</th>"
        f"<td class=number>{dropped.rows:,}</td><td>{escape(dropped.first)}</td></tr>"
        for dropped in xray.dropped
    )
    head = "<tr><td></td><th scope=col class=number>rows</th><th scope=col>first</th></tr>"
    return section(
        "Rows that are not used", f"<table class=dropped><thead>{head}</thead>{rows}</table>"
    )


def _notes(xray: XRay) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in xray.notes)
    return section("Notes", f"<ul>{items}</ul>") if items else ""


STYLE = """
:root { --trained: #d9edf7; --bad: #b3261e; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --trained: #173a4d; --bad: #f2b8b5;
 --warn: #e9c46a; } }
.verdict { margin: 1rem 0 0; padding: .5rem .9rem; background: var(--soft);
 border-left: .25rem solid var(--good); }
.verdict small { color: var(--faint); }
.error { border-color: var(--bad); }
.error b { color: var(--bad); }
.warning { border-color: var(--warn); }
.warning b { color: var(--warn); }
.wide { overflow-x: auto; }
.note { margin: .5rem 0 1rem; }
section > p { margin-bottom: .75rem; }
.wide th { overflow-wrap: normal; }
.bars th { width: 9rem; font-weight: 400; color: var(--faint); padding: .15rem .75rem .15rem 0;
 border: 0; font-variant-numeric: tabular-nums; }
.labels th { width: 45%; }
.bars td { border: 0; padding: .15rem .75rem .15rem 0; vertical-align: middle; }
.bars .number { width: 4.5rem; overflow-wrap: normal; }
.bar { height: .8rem; min-width: 1px; background: var(--good); border-radius: .15rem; }
.over { background: var(--warn); }
.limit th { border-top: 2px dashed var(--warn); color: var(--warn); font-size: .8rem; }
.dropped th { font-weight: 400; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.pair p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 34rem) { .pair { grid-template-columns: 1fr; }
 .bars th { width: 6rem; } .labels th { width: 45%; } }
"""
