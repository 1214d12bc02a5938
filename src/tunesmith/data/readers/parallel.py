"""Files side by side, such as the two languages of a translation: line n of each makes one row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from tunesmith.data.data_file import DataFile
from tunesmith.data.readers.lines import Line, read_lines
from tunesmith.data.row import Row, RowFault


def read_side_by_side(file: DataFile) -> Iterator[Row | RowFault]:
    """Yield a row a line; different numbers of lines are a fault of the files, at the end."""
    sides = [read_lines(path, str(path)) for path in (file.path, *file.beside)]
    counts = [0] * len(sides)
    number = 0
    for lines in zip_longest(*sides):
        counts = [count + (line is not None) for count, line in zip(counts, lines, strict=True)]
        if None in lines or not any(line.text.strip() for line in lines):
            continue
        number += 1
        yield _to_row(file, lines, number)
    if len(set(counts)) > 1:
        yield _uneven(file, counts)


def _to_row(file: DataFile, lines: tuple[Line, ...], number: int) -> Row | RowFault:
    fault = next((line.fault for line in lines if line.fault), None)
    if fault is not None:
        return fault
    texts = (line.text for line in lines)
    values = dict(zip(file.columns, texts, strict=True))
    return Row(file.shown, lines[0].number, values, number)


def _uneven(file: DataFile, counts: list[int]) -> RowFault:
    paths = (file.path, *file.beside)
    each = ", ".join(f"{path.name}: {count}" for path, count in zip(paths, counts, strict=True))
    return RowFault(
        file=file.shown,
        found=f"the files have different numbers of lines ({each})",
        expected="as many lines in each: line n of one belongs to line n of the other",
        fix="find the line that is missing in one of them; an empty line keeps a place",
        reason="unequal files",
    )
