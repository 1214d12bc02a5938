"""An X-ray on the terminal: what is wrong, the numbers side by side, lengths and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from rich.text import Text

from tunesmith.cli import output
from tunesmith.cli.quantities import count_text
from tunesmith.data.beginning import common_beginning
from tunesmith.data.xray.facts import SideXRay, Verdict, XRay
from tunesmith.data.xray.lengths import Lengths
from tunesmith.data.xray.numbers import (
    clusters_text,
    headline,
    label_lines,
    numbers,
    rows_text,
)
from tunesmith.data.xray.overlap import Overlap, RowPair

BAR_WIDTH = 40
MAX_PAIRS = 2
PAIR_CHARS = 96  # with its indent, a line of a terminal of 100 columns
STYLES = {"error": "bold red", "warning": "bold yellow"}


def show_xray(xray: XRay) -> None:
    """Print all of it, what matters most first."""
    output.say(headline(xray), style="bold")
    output.say(about(xray))
    show_verdicts(xray.verdicts)
    show_numbers(xray)
    for name, side in islice(xray.sides.items(), 1):  # the page has the bars of every side
        if side.lengths:
            show_bars(f"Lengths in tokens, {name}", length_bars(side.lengths, xray.max_length))
        if side.labels:
            most = side.labels.most_frequent[0].rows
            show_bars(f"Labels, {name}", bars(label_lines(side.labels), most=most))
    for title, pairs in pairs_by_title(xray):
        show_lines(title, pair_lines(pairs))
    show_lines("Rows that are not used", dropped_lines(xray))
    show_lines("Notes", xray.notes)


def about(xray: XRay) -> str:
    """Say how the rows were read, and whether a server sends what is trained."""
    text = f"task {xray.task}, form {xray.format}, rows that are too long: {xray.overflow}"
    return text + (f"; served as trained: {xray.serving.summary}" if xray.serving else "")


def show_verdicts(verdicts: Iterable[Verdict]) -> None:
    """Print each verdict with what to do, or nothing."""
    for verdict in verdicts:
        output.say()
        output.say(
            Text.assemble(
                (f"{verdict.severity}: ", STYLES[verdict.severity]), output.clean(verdict.sentence)
            )
        )
        output.say(f"  to do: {verdict.remedy}")


def show_numbers(xray: XRay) -> None:
    """Print the table of sides."""
    rows = [(line.name, *line.cells) for line in numbers(xray)]
    output.say()
    output.show_table(rows, ("", *xray.sides), right=range(1, len(xray.sides) + 1))


def show_bars(title: str, lines: Mapping[str, str]) -> None:
    """Print bars with their names under a title."""
    output.say()
    output.say(title, style="bold")
    output.show_pairs(lines)


def show_lines(title: str, lines: Iterable[str]) -> None:
    """Print lines under a title; nothing where there are none."""
    given = list(lines)
    if not given:
        return
    output.say()
    output.say(title, style="bold")
    for line in given:
        output.say(f"  {line}")


def length_bars(lengths: Lengths, max_length: int) -> dict[str, str]:
    """Return the histogram; the bars of rows that are all too long are drawn otherwise."""
    names = {f"{bin.low:,}-{bin.high:,}": bin for bin in lengths.histogram}
    drawn = bars((name, bin.rows) for name, bin in names.items())
    return {
        name: f"{text.replace('#', 'x')}  over {max_length:,}"
        if names[name].low > max_length
        else text
        for name, text in drawn.items()
    }


def bars(lines: Iterable[tuple[str, int]], *, most: int = 0) -> dict[str, str]:
    """Return a bar of # and the count for each name; that of `most` rows, and of more, is 40."""
    counts = dict(lines)
    scale = most or max(counts.values(), default=0) or 1
    return {
        output.clean(name): f"{'#' * min(BAR_WIDTH, -(-BAR_WIDTH * rows // scale))} "
        f"{count_text(rows)}".strip()
        for name, rows in counts.items()
    }


def pairs_by_title(xray: XRay) -> Iterator[tuple[str, tuple[RowPair, ...]]]:
    """Yield the first pairs of rows that are in two sides, or nearly twice in one."""
    for overlap in xray.overlaps:
        yield _overlap_title(overlap), (*overlap.exact_pairs, *overlap.near_pairs)
    for name, side in xray.sides.items():
        if side.near:
            yield _near_title(name, side), side.near.pairs


def pair_lines(pairs: Iterable[RowPair]) -> Iterator[str]:
    """Yield three lines a pair: how near, and both rows from where they part, as a line goes."""
    for pair in list(pairs)[:MAX_PAIRS]:
        yield f"{pair.first.row_id} and {pair.second.row_id}: about {pair.similarity:.0%} in common"
        lines = [" ".join(row.text.split()) for row in (pair.first, pair.second) if row.text]
        start = _start_of_difference(lines)
        yield from (f"  {_cut_line(line, start)}" for line in lines)


def dropped_lines(xray: XRay) -> Iterator[str]:
    """Yield a line for each reason."""
    for dropped in xray.dropped:
        first = f", first {dropped.first}" if dropped.first else ""
        yield f"{dropped.reason} ({rows_text(dropped.rows)}{first})"


def _overlap_title(overlap: Overlap) -> str:
    counts = f"{count_text(overlap.exact)} equal, {count_text(overlap.near)} nearly"
    return f"In {overlap.side} and in {overlap.other}: {counts}"


def _near_title(name: str, side: SideXRay) -> str:
    assert side.near is not None, "the caller has looked"
    return f"Near-duplicates in {name}: {rows_text(side.near.rows)}, {clusters_text(side.near)}"


def _start_of_difference(lines: Sequence[str]) -> int:
    """Return from where to show lines of which a line's width would show nothing different."""
    same = len(common_beginning(lines))
    is_seen = same < PAIR_CHARS // 2 or same == max(map(len, lines), default=0)
    return 0 if is_seen else same - PAIR_CHARS // 4


def _cut_line(line: str, start: int) -> str:
    line = f"...{line[start:]}" if start else line
    return line if len(line) <= PAIR_CHARS else line[: PAIR_CHARS - 3] + "..."
