"""The numbers of an X-ray in words, one line each with a cell a side: for a page or a terminal.

A line that says that nothing is wrong is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tunesmith.data.xray.facts import SideXRay, XRay
from tunesmith.data.xray.labels import LabelBalance
from tunesmith.data.xray.overlap import NearDuplicates


class NumbersLine(NamedTuple):
    """A name, and what each side has to say of it."""

    name: str
    cells: tuple[str, ...]


def headline(xray: XRay) -> str:
    """Say in a sentence what is trained."""
    side = next(iter(xray.sides.values()), None)
    if side is None or not side.rows:
        return "There are no rows to train on."
    return (
        f"{side.trained_tokens:,} tokens are trained, of {side.tokens:,} in "
        f"{rows_text(side.rows)}, as {xray.model} sees them."
    )


def numbers(xray: XRay) -> tuple[NumbersLine, ...]:
    """Return the lines of the table of sides."""
    sides = list(xray.sides.values())
    return tuple(
        NumbersLine(name, tuple(map(cell, sides)))
        for name, cell, is_always in _lines(xray)
        if is_always or any(cell(side) not in ("0", "") for side in sides)
    )


def label_lines(labels: LabelBalance) -> Iterator[tuple[str, int]]:
    """Name the labels with their rows, most frequent first; the rest is at the end."""
    yield from ((count.label, count.rows) for count in labels.most_frequent)
    if labels.other_labels:
        yield f"({labels.other_labels:,} more labels)", labels.other_rows
    if labels.unlabelled_rows:
        yield "(no label)", labels.unlabelled_rows


def rows_text(rows: int) -> str:
    """Count rows in words."""
    return "1 row" if rows == 1 else f"{rows:,} rows"


def clusters_text(near: NearDuplicates) -> str:
    """Say how many clusters there are."""
    return "1 cluster" if near.clusters == 1 else f"{near.clusters:,} clusters"


def _lines(xray: XRay) -> Iterator[tuple[str, Callable[[SideXRay], str], bool]]:
    """Yield name, cell, and whether the line is there even where every cell is 0."""
    yield "rows", lambda side: f"{side.rows:,}", True
    yield "equal rows left out", lambda side: f"{side.duplicates:,}", False
    yield "examples", _examples, False
    yield "tokens", lambda side: f"{side.tokens:,}", True
    yield "trained", _trained, True
    yield "lengths", _lengths, True
    yield f"longer than {xray.max_length:,}", lambda side: f"{side.rows_too_long:,}", True
    yield "  of them cut", lambda side: f"{side.rows_cut:,}", False
    yield "  examples after cutting", _pieces, False
    yield "  of them left out", lambda side: f"{side.rows_left_out:,}", False
    yield "  trained tokens lost", _lost, False
    yield "nothing to train", lambda side: f"{side.rows_unsupervised:,}", False
    yield "reply's end not trained", lambda side: f"{side.rows_without_end_of_turn:,}", True
    yield "begin tokens", _begin_tokens, False
    yield "with control text", lambda side: f"{side.rows_with_control_text:,}", False
    yield "nearly repeat another", _near, True
    yield "labels (most : least frequent)", _labels, False


def _examples(side: SideXRay) -> str:
    return f"{side.examples:,}" if side.examples != side.rows else ""


def _pieces(side: SideXRay) -> str:
    """Say how many examples remain where cutting makes more of them."""
    is_cut_up = side.used_examples > side.examples - side.rows_unsupervised
    return f"{side.used_examples:,}" if is_cut_up else ""


def _trained(side: SideXRay) -> str:
    share = side.trained_tokens / side.tokens if side.tokens else 0.0
    return f"{side.trained_tokens:,} ({share:.1%})"


def _lengths(side: SideXRay) -> str:
    lengths = side.lengths
    if lengths is None:
        return ""
    return f"{lengths.shortest:,} to {lengths.longest:,}, median {lengths.median:,}"


def _lost(side: SideXRay) -> str:
    if not side.lost_supervised_tokens:
        return "0"
    share = side.lost_supervised_tokens / side.supervised_tokens
    return f"{side.lost_supervised_tokens:,} ({share:.1%})"


def _begin_tokens(side: SideXRay) -> str:
    """Say how many rows begin with none, one and several, where they differ."""
    counts = {"none": side.bos.none, "one": side.bos.one, "two or more": side.bos.several}
    found = {name: rows for name, rows in counts.items() if rows}
    if set(found) == {"none"}:
        return ""
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{name} in {rows:,}" for name, rows in found.items())


def _near(side: SideXRay) -> str:
    if side.near is None:
        return ""
    if not side.near.rows:
        return "0"
    return f"{side.near.rows:,} ({clusters_text(side.near)})"


def _labels(side: SideXRay) -> str:
    if side.labels is None:
        return ""
    return f"{side.labels.labels:,} ({side.labels.imbalance:.3g}:1)"
