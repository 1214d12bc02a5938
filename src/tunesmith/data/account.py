"""What became of the rows of a run, in words and as a list: nothing is left out in silence."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from tunesmith.data.pipeline import RunData


def notes_of(data: RunData) -> list[str]:
    """Say what is no fault and should be known of the rows."""
    return [f"{told.what} ({told.rows:,} rows, first {told.first})" for told in data.counts.notes]


def dropped_lines(data: RunData) -> Iterator[bytes]:
    """Name every row that is not used and why, one JSON object a line."""
    for row in data.dropped():
        yield orjson.dumps(row._asdict()) + b"\n"


def data_warnings(data: RunData, dropped_file: str) -> list[str]:
    """Say what happened to rows that their owner may not expect."""
    sides = (data.train_side.fitted, data.validation_side.fitted)
    dropped = data.rows_dropped()
    truncated = sum(side.rows_truncated for side in sides)
    lost = sum(side.lost_supervised_tokens for side in sides)
    texts = {
        f"{data.counts.duplicates:,} duplicate rows are used once": data.counts.duplicates,
        f"{data.counts.overlap:,} held-out rows are also trained": data.counts.overlap,
        f"{dropped:,} rows are left out (listed in {dropped_file})": dropped,
        f"{truncated:,} rows are cut, {lost:,} supervised tokens are lost": truncated,
        "there are no held-out rows: nothing is measured": not data.validation,
    }
    return [text for text, happened in texts.items() if happened] + notes_of(data)
