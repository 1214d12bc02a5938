"""Bars of a table, as HTML: a length beside its number, an interval as a thin line over its end.

No picture: the numbers stay text, and the colours are the page's own on a light and a dark ground.
"""

from __future__ import annotations

from tunesmith.core.page import escape

STYLE = """
.bar { position: relative; display: block; height: .8rem; min-width: 8rem; margin: .12rem 0;
 background: var(--soft); border-radius: .15rem; }
.bar span { position: absolute; top: 0; bottom: 0; border-radius: .15rem; }
.before span.length { background: var(--before); }
.after span.length { background: var(--good); }
.bar span.interval { top: .32rem; bottom: .32rem; background: var(--text); border-radius: 0; }
.cost { height: .3rem; min-width: 3.5rem; background: none; }
.cost span.length { background: var(--before); }
"""


def bar(
    value: float | None,
    limit: float,
    *,
    kind: str,
    interval: tuple[float | None, float | None] = (None, None),
) -> str:
    """Return a bar from 0 to `limit`; nothing where there is no value.

    Args:
        value: Its length.
        limit: What fills the whole width.
        kind: The class of its colour: before, after or cost.
        interval: Both ends of the thin line.
    """
    if value is None or limit <= 0:
        return ""
    low, high = interval
    line = ""
    if low is not None and high is not None:
        left, right = _share(low, limit), _share(high, limit)
        line = f'<span class=interval style="left:{left:.2f}%;width:{right - left:.2f}%"></span>'
    length = f'<span class=length style="left:0;width:{_share(value, limit):.2f}%"></span>'
    return f'<span class="bar {escape(kind)}" aria-hidden=true>{length}{line}</span>'


def _share(value: float, limit: float) -> float:
    return 100 * min(max(value / limit, 0.0), 1.0)
