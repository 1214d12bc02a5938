"""CoNLL: a token and its tag a line, a blank line after each sentence.

Zagreb<TAB>B-LOC      the first column is the token, the last its tag
is<TAB>O              columns between them (part of speech, chunk) are passed over
                      -> {"tokens": ["Zagreb", "is"], "tags": ["B-LOC", "O"]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tunesmith.data.data_file import DataFile
from tunesmith.data.readers.lines import Line, read_lines
from tunesmith.data.row import Row, RowFault, Skipped, place_at

# A token may hold any character but these; some tokens are no-break spaces.
_BLANKS = " \t\r"
_GAP = re.compile(r"[ \t]+")
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_DOCUMENT_START = "-DOCSTART-"
_LINES_NAMED = 5


def read_sentences(file: DataFile) -> Iterator[Row | RowFault | Skipped]:
    """Yield a row a sentence; a sentence with a line without a tag is a fault."""
    number = 0
    passed = _Passed()
    sentence: list[Line] = []
    for line in read_lines(file.path, file.shown):
        if line.text.strip(_BLANKS):
            if not passed.over(line):
                sentence.append(line)
        elif sentence:
            number += 1
            yield _to_row(file.shown, sentence, number)
            sentence = []
    if sentence:
        yield _to_row(file.shown, sentence, number + 1)
    yield from passed.skipped(file.shown)


def looks_like_conll(lines: Sequence[str]) -> bool:
    """Whether lines of an unknown kind are tokens with tags."""
    tagged = [line for line in lines if line.strip(_BLANKS) and not _is_document_start(line)]
    if len(tagged) < 2:
        return False
    fields = [_split(line) for line in tagged if not _is_comment(line)]
    return bool(fields) and all(len(one) > 1 and _TAG.fullmatch(one[-1]) for one in fields)


class _Passed:
    """Counts the lines that are neither tokens nor blank."""

    def __init__(self) -> None:
        self._lines: dict[str, list[int]] = {}

    def over(self, line: Line) -> bool:
        """Return whether the line is one to pass over, and count it."""
        if _is_document_start(line.text):
            what = f"{_DOCUMENT_START} lines"
        elif _is_comment(line.text):
            what = "comment lines"
        else:
            return False
        counted = self._lines.setdefault(what, [0, line.number])
        counted[0] += 1
        return True

    def skipped(self, shown: str) -> Iterator[Skipped]:
        """Yield what was passed over."""
        for what, (count, first) in self._lines.items():
            yield Skipped(shown, what, count, first)


def _is_document_start(text: str) -> bool:
    return text.startswith(_DOCUMENT_START)


def _is_comment(text: str) -> bool:
    return text.startswith("# ") and not _TAG.fullmatch(_split(text)[-1])


def _split(text: str) -> list[str]:
    text = text.rstrip(_BLANKS)
    return text.split("\t") if "\t" in text else _GAP.split(text)


def _to_row(shown: str, sentence: Sequence[Line], number: int) -> Row | RowFault:
    undecoded = next((line.fault for line in sentence if line.fault), None)
    if undecoded is not None:
        return undecoded
    fields = [_split(line.text) for line in sentence]
    bad = [
        line
        for line, parts in zip(sentence, fields, strict=True)
        if len(parts) < 2 or not parts[0] or not parts[-1]
    ]
    if bad:
        return _untagged(shown, bad)
    tokens = [parts[0] for parts in fields]
    tags = [parts[-1] for parts in fields]
    return Row(shown, sentence[0].number, {"tokens": tokens, "tags": tags}, number)


def _untagged(shown: str, bad: Sequence[Line]) -> RowFault:
    numbers = [str(line.number) for line in bad[:_LINES_NAMED]]
    more = f" and {len(bad) - _LINES_NAMED} more" if len(bad) > _LINES_NAMED else ""
    lines = f"line {numbers[0]} has" if len(bad) == 1 else f"lines {', '.join(numbers)}{more} have"
    return place_at(shown, bad[0].number).saying(
        found=f'{lines} no token with a tag ("{bad[0].text.strip(_BLANKS)[:40]}")',
        expected="a token, a tab or a space, and its tag",
        fix="write the tag after the token, O where it is part of no entity",
        reason="token without tag",
    )
