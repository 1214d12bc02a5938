"""One HTML page that loads nothing: its frame, its look, and how text gets into it.

Text of rows, recipes and paths comes from strangers; every piece goes through `escape`, and the
page forbids scripts and requests by a policy of its own.
"""

from __future__ import annotations

import html
from collections.abc import Iterable


def write_page(title: str, body: str, *, more_style: str = "") -> str:
    """Return the whole page; `body` is HTML, `title` is text."""
    return PAGE.format(title=escape(title), style=STYLE + more_style, body=body)


def section(title: str, inner: str) -> str:
    """Return a part of the page under its heading; `inner` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def pairs_section(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values, or nothing where there are none."""
    rows = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in pairs
    )
    return section(title, f"<table class=pairs>{rows}</table>") if rows else ""


def escape(text: str) -> str:
    """Return text as HTML that shows it."""
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
