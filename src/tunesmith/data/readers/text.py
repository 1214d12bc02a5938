"""Plain text and ABC music: a document is a line, a block up to a blank line, or the whole file.

A block of ABC music is a tune: it begins at `X:` and goes on to the next one, whatever blank lines
it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Literal, assert_never

from tunesmith.data.data_file import DataFile, FileOptions
from tunesmith.data.readers.lines import Line, read_lines
from tunesmith.data.readers.suffix import suffix_of
from tunesmith.data.row import Row, RowFault, Skipped

_TUNE = "X:"
_LINES_TO_JUDGE_BY = 10_000  # a file of tunes begins the first of them by then


def read_documents(file: DataFile, options: FileOptions) -> Iterator[Row | RowFault | Skipped]:
    """Yield a row {"text": ...} a document."""
    lines = read_lines(file.path, file.shown)
    documents = _documents_of(file) if options.documents == "auto" else options.documents
    match documents:
        case "line":
            yield from _number(file.shown, ([line] for line in lines if line.text.strip()))
        case "block" if file.kind == "abc":
            yield from _read_tunes(file.shown, lines)
        case "block":
            yield from _number(file.shown, _blocks(lines))
        case "file":
            whole = list(lines)
            is_blank = not any(line.text.strip() for line in whole)
            yield from _number(file.shown, [] if is_blank else [whole])
        case _:
            assert_never(documents)


def _documents_of(file: DataFile) -> Literal["line", "block", "file"]:
    """Return what a document is by the file's kind: no line of Markdown stands alone."""
    if file.kind == "abc":
        return "block"
    return "file" if suffix_of(file.path) == ".md" else "line"


def _number(shown: str, documents: Iterable[Sequence[Line]]) -> Iterator[Row | RowFault]:
    for number, lines in enumerate(documents, start=1):
        yield _to_row(shown, lines, number)


def _to_row(shown: str, lines: Sequence[Line], number: int) -> Row | RowFault:
    fault = next((line.fault for line in lines if line.fault), None)
    if fault is not None:
        return fault
    text = "\n".join(line.text for line in lines)
    return Row(shown, lines[0].number, {"text": text}, number)


def _blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    block: list[Line] = []
    for line in lines:
        if line.text.strip():
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def _read_tunes(shown: str, lines: Iterator[Line]) -> Iterator[Row | RowFault | Skipped]:
    head = list(islice(lines, _LINES_TO_JUDGE_BY))
    if not any(line.text.startswith(_TUNE) for line in head):
        yield from _number(shown, _blocks(chain(head, lines)))
        return
    before: list[Line] = []
    number = 0
    for tune in _tunes(chain(head, lines)):
        if tune[0].text.startswith(_TUNE):
            number += 1
            yield _to_row(shown, tune, number)
        else:
            before = [line for line in tune if line.text.strip()]
    if before:
        yield Skipped(shown, "lines before the first X:", len(before), before[0].number)


def _tunes(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Cut before each line that begins a tune; blank lines at a tune's end are no part of it."""
    tune: list[Line] = []
    for line in lines:
        if line.text.startswith(_TUNE) and tune:
            yield _trimmed(tune)
            tune = []
        tune.append(line)
    if tune:
        yield _trimmed(tune)


def _trimmed(tune: list[Line]) -> list[Line]:
    end = len(tune)
    while end > 1 and not tune[end - 1].text.strip():
        end -= 1
    return tune[:end]
