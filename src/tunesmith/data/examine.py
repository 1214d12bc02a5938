"""From the rows of a run to its X-ray: arrays of each side, the first rows, the page."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from tunesmith.core.errors import DataError, Fault
from tunesmith.data.account import notes_of
from tunesmith.data.beginning import common_beginning
from tunesmith.data.conversation import Sample
from tunesmith.data.fields import HEAD_TASKS
from tunesmith.data.pipeline import RunData, Side
from tunesmith.data.prepared.store import CONTROL_TEXT, HAS_END
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.render import Example
from tunesmith.data.tokenizer import encoder_of
from tunesmith.data.xray.build import SideArrays, x_ray
from tunesmith.data.xray.facts import DroppedRows, XRay
from tunesmith.data.xray.overlap import RowText
from tunesmith.data.xray.page import xray_page
from tunesmith.data.xray.serving import ServingCheck, check_serving
from tunesmith.data.xray.token_view import shown_row
from tunesmith.recipe.task import recipe_word

# Of a row that is shown beside another one.
MAX_TOKENS = 400
MAX_CHARS = 400
ROWS_TO_COMPARE = 20
SHOWN_ROWS = 10


def examine(data: RunData, source: TokenizerSource, *, model: str = "") -> XRay:
    """Look at every row that a run would train on or measure with, as the named model sees it."""
    encoder = encoder_of(source.tokenizer)
    return x_ray(
        {name: _arrays(side) for name, side in data.sides.items()},
        data.part,
        model=model or encoder.name,
        task=recipe_word(data.task),
        form=data.format,
        adds_bos=encoder.automatic_bos is not None,
        dropped=_dropped(data),
        notes=notes_of(data),
        serving=_check_serving(data, source),
        look_up=_LookUp(data, source).find,
    )


def _check_serving(data: RunData, source: TokenizerSource) -> ServingCheck | None:
    """Compare with what a server sends; a head reads the tokenizer's own text, both times."""
    if data.task in HEAD_TASKS:
        return None
    return check_serving(_first_samples(data), source.tokenizer, data.part, data.task)


def page_of(xray: XRay, data: RunData, source: TokenizerSource, *, rows: int = SHOWN_ROWS) -> str:
    """Return the X-ray as a page, with the first rows token by token."""
    encoder = encoder_of(source.tokenizer)
    side = data.train_side  # rows that do not fit are shown, too: people want to see why
    first = [side.file.store.example(int(index)) for index in side.all_examples[:rows]]
    shown = [shown_row(example, encoder) for example in first]
    return xray_page(xray, shown, encoder.control_ids)


def require_useful(xray: XRay, data: RunData) -> None:
    """Raise a DataError where a run would train on nothing useful."""
    faults = [
        Fault(found=verdict.sentence, where=data.part.train, fix=verdict.remedy)
        for verdict in xray.errors
    ]
    if faults:
        raise DataError(faults)


def _arrays(side: Side) -> SideArrays:
    store = side.file.store
    indices = side.all_examples
    about = store.examples[indices]
    used = side.examples
    place = np.searchsorted(indices, used.indices)
    used_lengths = np.zeros(len(indices), dtype=np.int64)
    used_supervised = np.zeros(len(indices), dtype=np.int64)
    np.add.at(used_lengths, place, used.lengths)
    np.add.at(used_supervised, place, used.supervised)
    rows = store.rows[side.rows]
    return SideArrays(
        num_rows=len(side.rows),
        example_row=np.searchsorted(side.rows, about["row"]),
        lengths=about["length"],
        supervised=about["supervised"],
        used_lengths=used_lengths,
        used_supervised=used_supervised,
        num_used=len(used),
        num_bos=about["num_bos"],
        has_end=(about["flags"] & HAS_END) > 0,
        control_text=(about["flags"] & CONTROL_TEXT) > 0,
        contents=rows["side_high"],
        signatures=store.signatures[side.rows],
        label_codes=rows["label"] if store.labels else None,
        label_names=store.labels,
        duplicates=side.duplicates,
    )


def _dropped(data: RunData) -> list[DroppedRows]:
    first: dict[str, str] = {}
    for file in data.files:
        for row_id, reasons in file.tally.dropped:
            for reason in reasons.split("; "):
                first.setdefault(reason, row_id)
    return [
        DroppedRows(reason, rows, first.get(reason, ""))
        for reason, rows in data.refused_reasons().items()
    ]


def _first_samples(data: RunData) -> Iterator[tuple[Sample, Example]]:
    """Yield rows whose samples are kept, each with its last example."""
    for side in (data.validation_side, data.train_side):
        store = side.file.store
        for row in side.rows:
            sample = store.sample(int(row))
            last = int(store.first_example[row + 1]) - 1
            if sample is not None and last >= store.first_example[row]:
                yield sample, store.example(last)


class _LookUp:
    """Finds the name and the text of a row, without what all rows begin with."""

    def __init__(self, data: RunData, source: TokenizerSource) -> None:
        self._data = data
        self._tokenizer = source.tokenizer

    def find(self, side: str, row: int) -> RowText:
        store = self._data.sides[side].file.store
        index = int(self._data.sides[side].rows[row])
        if not store.rows["examples"][index]:
            return RowText(store.row_id(index), "")
        text = self._text(store.example(int(store.first_example[index])))
        own = text.removeprefix(self._shared)
        return RowText(store.row_id(index), own[:MAX_CHARS], max(0, len(own) - MAX_CHARS))

    @cached_property
    def _shared(self) -> str:
        examples = self._data.train.spread(ROWS_TO_COMPARE)
        if len(examples) < ROWS_TO_COMPARE:
            return ""
        return common_beginning([self._text(example) for example in examples])

    def _text(self, example: Example) -> str:
        return self._tokenizer.decode(example.tokens[:MAX_TOKENS].tolist())
