"""Rows as tokens on a page: what is trained stands out, and nothing is invisible."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache

from tunesmith.core.page import escape
from tunesmith.data.render import Example
from tunesmith.data.show import Piece, show_example
from tunesmith.data.tokenizer import TextEncoder

MAX_TOKENS = 2000

# What cannot be seen otherwise: controls, formats, surrogates, unassigned, and other spaces.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"}
_SPACE, _BREAK, _TAB = "<i>&middot;</i><wbr>", "<i>&crarr;</i>\n", "<i>&rarr;</i>\t"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    """The first tokens of an example; `hidden` more are not shown. `part` names it in its row."""

    row_id: str
    part: str
    tokens: int
    trained: int
    hidden: int
    pieces: tuple[Piece, ...]


def shown_row(example: Example, encoder: TextEncoder) -> ShownRow:
    """Cut an example into pieces that can be shown."""
    first = replace(
        example, tokens=example.tokens[:MAX_TOKENS], weights=example.weights[:MAX_TOKENS]
    )
    return ShownRow(
        row_id=example.row_id,
        part=example.part,
        tokens=len(example.tokens),
        trained=example.supervised_tokens,
        hidden=len(example.tokens) - len(first.tokens),
        pieces=show_example(first, encoder.tokenizer),
    )


def token_view(row: ShownRow, control_ids: Collection[int]) -> str:
    """Return the row as HTML; what `control_ids` holds is drawn as a chip."""
    part = f", {escape(row.part)}" if row.part else ""
    spans = "".join(_span(piece, control_ids) for piece in row.pieces)
    more = f"<p class=note>{row.hidden:,} more tokens are not shown.</p>" if row.hidden else ""
    return (
        f"<article><h3>{escape(row.row_id)}{part}: {row.tokens:,} tokens, {row.trained:,} trained"
        f"</h3><p class=tokens>{spans}</p>{more}</article>"
    )


def _span(piece: Piece, control_ids: Collection[int]) -> str:
    is_control = any(token in control_ids for token in piece.tokens)
    classes = ("k" if is_control else "") + (" t" if piece.weight > 0 else "")
    ids = " ".join(map(str, piece.tokens))
    kind = f' class="{classes.strip()}"' if classes else ""
    text = escape(piece.text) if is_control else "".join(map(_character, piece.text))
    return f'<span{kind} title="{ids}, weight {piece.weight:g}">{text}</span>'


@cache
def _character(one: str) -> str:
    match one:
        case " ":
            return _SPACE
        case "\n":
            return _BREAK
        case "\t":
            return _TAB
        case _ if unicodedata.category(one) in _INVISIBLE:
            return f"<i>U+{ord(one):04X}</i>"
        case _:
            return escape(one)


STYLE = """
.tokens { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere;
 font: .85rem/1.9 ui-monospace, Menlo, Consolas, monospace; color: var(--faint); }
.tokens span { border-left: 1px solid var(--line); padding: .1rem 0; }
.tokens i { font-style: normal; font-size: .75em; opacity: .6; }
.t { background: var(--trained); color: var(--text); border-bottom: 2px solid var(--good); }
.tokens .k { border: 1px solid var(--faint); border-radius: .6rem; padding: 0 .35rem;
 margin: 0 .1rem; font-size: .75rem; }
.tokens .k.t { border-color: var(--good); }
"""
