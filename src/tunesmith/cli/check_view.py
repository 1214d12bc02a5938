"""What `tunesmith data check` found: for people, and as the document of `--json`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tunesmith.cli import output
from tunesmith.cli.quantities import count_text
from tunesmith.core.errors import MAX_FAULTS_IN_MESSAGE
from tunesmith.data.fields import HEAD_TASKS
from tunesmith.data.formats import FORMATS
from tunesmith.data.prepared.prepare import PreparedFile
from tunesmith.data.prepared.sides import distinct_rows
from tunesmith.data.tally import Tally
from tunesmith.data.xray.numbers import rows_text


def show_check(prepared: PreparedFile) -> None:
    """Print what a file holds and what should be known of it."""
    tally = prepared.tally
    found = f"{rows_text(tally.rows_refused)} left out" if tally.rows_refused else "no faults"
    output.say(f"{prepared.source}: {found}", style="bold")
    usable = f", {count_text(tally.rows_usable)} of them usable" if tally.rows_refused else ""
    output.show_pairs(
        {
            "rows": f"{count_text(tally.rows_read)}{usable}",
            "form": prepared.judgement.form or "",
            "serves task": ", ".join(_tasks(prepared)),
            "duplicates": f"{count_text(_duplicates(prepared))} (left out of a run)",
        }
    )
    for line in _left_out(tally):
        output.say(f"  {line}")
    for column, rows in tally.ignored.most_common():
        verb = "has" if rows == 1 else "have"
        output.say(f"  column {column} is not read ({rows_text(rows)} {verb} it)")
    for told in tally.notes:
        output.say(f"  note: {told.what} ({rows_text(told.rows)}, first {told.first})")


def describe_check(prepared: PreparedFile) -> dict[str, Any]:
    """What `data check --json` prints; `dropped` are the first ones of the rows left out."""
    tally = prepared.tally
    return {
        "file": prepared.source,
        "paths": list(prepared.store.meta["files"]),
        "format": prepared.judgement.form,
        "tasks": list(_tasks(prepared)),
        "rows": tally.rows_read,
        "rows_usable": tally.rows_usable,
        "rows_refused": tally.rows_refused,
        "reasons": dict(tally.reasons.most_common()),
        "dropped": [{"row_id": row_id, "reason": reason} for row_id, reason in tally.dropped],
        "duplicates": _duplicates(prepared),
        "ignored_columns": dict(tally.ignored.most_common()),
        "notes": [asdict(told) for told in tally.notes],
    }


def _tasks(prepared: PreparedFile) -> tuple[str, ...]:
    form = prepared.judgement.form
    return tuple(task for task in FORMATS[form].tasks if task not in HEAD_TASKS) if form else ()


def _duplicates(prepared: PreparedFile) -> int:
    return len(prepared.store.rows) - len(distinct_rows(prepared.store.rows))


def _left_out(tally: Tally) -> Iterator[str]:
    """Yield a line for each reason, and one for each of the first rows."""
    for reason, rows in tally.reasons.most_common():
        yield f"left out: {reason} ({rows_text(rows)})"
    shown = tally.dropped[:MAX_FAULTS_IN_MESSAGE]
    yield from (f"  {row_id}: {reason}" for row_id, reason in shown)
    if hidden := tally.rows_refused - len(shown):
        yield f"  ... and {rows_text(hidden)} more"
