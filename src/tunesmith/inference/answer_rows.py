"""Goes through rows some at once, asks an answerer, and writes a line for each row in its order.

rows       1 2 3 4 5 6 7 8      asked four at once; line 5 was written before
windows   [1 2 3 4][5 6 7 8]    the second is answered whole, and its lines 6 7 8 are written
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith.core.errors import DataError, Fault, RunError, UserError
from tunesmith.core.out_of_memory import is_out_of_memory
from tunesmith.data.asked import FaultyRow
from tunesmith.data.conversation import Sample
from tunesmith.data.rows import RowFault
from tunesmith.data.tally import MAX_KEPT
from tunesmith.inference.answerer import Answerer
from tunesmith.inference.answers_file import AnswersFile
from tunesmith.inference.predict_request import OnBadRow

TELL_EVERY_S = 1.0

AskedRow = Sample | FaultyRow
Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Answered:
    """What was done: `cut` answers were cut at the most tokens."""

    cut: int
    seconds: float


def check_prompts(rows: Iterable[AskedRow], answerer: Answerer, on_bad_row: OnBadRow) -> int:
    """Return how many rows the model cannot be asked.

    Raises:
        DataError: with all of them, unless they are to be reported in their lines.
    """
    faults: list[RowFault] = []
    num_faults = 0
    for _, window in _windows(rows, answerer.rows_at_once):
        found = [one for one in _refusals(window, answerer) if one is not None]
        num_faults += len(found)
        faults += found[: MAX_KEPT - len(faults)]
    if faults and on_bad_row == "error":
        raise DataError([fault.to_fault() for fault in faults], total=num_faults)
    return num_faults


def answer_rows(
    rows: Iterable[AskedRow],
    answerer: Answerer,
    answers: AnswersFile,
    *,
    total: int,
    tell: Tell,
) -> Answered:
    """Write a line for each row that has none yet.

    Raises:
        UserError: a line that was there before is of another row.
        RunError: memory ran out.
    """
    started = last_told = time.monotonic()
    known_ids = answers.row_ids()
    cut = 0
    for first, window in _windows(rows, answerer.rows_at_once):
        num_known = min(max(answers.num_lines - first, 0), len(window))
        _require_same_rows(window[:num_known], known_ids, answers.path)
        if num_known == len(window):
            continue
        lines = _lines(window, first, answerer)[num_known:]
        answers.write(lines)
        cut += sum(line.get("finish_reason") == "length" for line in lines)
        now, done = time.monotonic(), first + len(window)
        if now - last_told >= TELL_EVERY_S or done == total:
            last_told = now
            tell({"predicted": _pace(done, total, answers.num_lines, now - started)})
    return Answered(cut, round(time.monotonic() - started, 3))


def _lines(window: Sequence[AskedRow], first: int, answerer: Answerer) -> list[dict[str, Any]]:
    """Answer the rows that can be; the others' lines say why not."""
    rows = _with_refusals(window, answerer)
    asked = {place: row for place, row in enumerate(rows) if not isinstance(row, FaultyRow)}
    answered = _answer(answerer, asked, first)
    return [
        {"row_id": row.row_id, **(_error(row) if isinstance(row, FaultyRow) else answered[place])}
        for place, row in enumerate(rows)
    ]


def _with_refusals(window: Sequence[AskedRow], answerer: Answerer) -> list[AskedRow]:
    refusals = iter(_refusals(window, answerer))
    rows: list[AskedRow] = []
    for row in window:
        refusal = None if isinstance(row, FaultyRow) else next(refusals)
        rows.append(FaultyRow(row.row_id, (refusal,)) if refusal else row)
    return rows


def _refusals(window: Sequence[AskedRow], answerer: Answerer) -> list[RowFault | None]:
    return answerer.refuse([row for row in window if not isinstance(row, FaultyRow)])


def _answer(answerer: Answerer, asked: dict[int, Sample], first: int) -> dict[int, dict[str, Any]]:
    if not asked:
        return {}
    try:
        answers = answerer.answer(list(asked.values()), [first + place for place in asked])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fault = Fault(
            found="memory ran out",
            where=f"{len(asked)} rows, the first of them {next(iter(asked.values())).row_id}",
            fix="go on with --resume and a lower --batch-tokens",
        )
        raise RunError(fault, code="out_of_memory") from error
    return dict(zip(asked, answers, strict=True))


def _error(row: FaultyRow) -> dict[str, str]:
    texts = [
        fault.to_fault().found + (f" ({fault.field})" if fault.field else "")
        for fault in row.faults
    ]
    return {"error": "; ".join(texts)}


def _windows(rows: Iterable[AskedRow], size: int) -> Iterator[tuple[int, list[AskedRow]]]:
    """Yield rows in lists of `size`, each with the place of its first row."""
    remaining = iter(rows)
    first = 0
    while window := list(islice(remaining, size)):
        yield first, window
        first += len(window)


def _require_same_rows(rows: Sequence[AskedRow], known_ids: Iterator[str], path: Path) -> None:
    for row in rows:
        known = next(known_ids)
        if known != row.row_id:
            fault = Fault(
                found=f"an answer to {known}, where the one to {row.row_id} should be",
                where=str(path),
                fix="begin anew with --overwrite",
            )
            raise UserError(fault, code="answers_differ")


def _pace(done: int, total: int, before: int, seconds: float) -> dict[str, float]:
    rate = (done - before) / max(seconds, 1e-9)
    left = (total - done) / rate
    return {"rows": done, "total": total, "rows_per_second": rate, "seconds_left": left}
