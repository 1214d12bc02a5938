"""From the arrays of each side to the facts of an X-ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tunesmith.data.minhash import Signatures
from tunesmith.data.xray.facts import BosCounts, DroppedRows, SideXRay, XRay
from tunesmith.data.xray.labels import balance, count_labels, lonely_labels
from tunesmith.data.xray.lengths import measure
from tunesmith.data.xray.overlap import Comparable, RowLookUp, RowText, find_near, find_overlap
from tunesmith.data.xray.serving import ServingCheck
from tunesmith.data.xray.verdicts import judge
from tunesmith.recipe.data import DataPart

Counts = npt.NDArray[np.integer]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class SideArrays:
    """What is known of a side's distinct rows, one entry an example or a row.

    An example: `example_row` (its row, counted from 0 in this side), `lengths` and `supervised`
    (of the whole example), `used_lengths` and `used_supervised` (what the length limit leaves of
    it, 0 where it is not used; `num_used` examples are used, which are more than there are where
    texts are cut up), `num_bos` (begin tokens in a row at its beginning), `has_end`,
    `control_text`.

    A row: `contents` (a hash of its texts), `signatures`, `label_codes` (an index of
    `label_names`, below 0 for none). Each may be None.
    """

    num_rows: int
    example_row: Counts
    lengths: Counts
    supervised: Counts
    used_lengths: Counts
    used_supervised: Counts
    num_used: int
    num_bos: Counts
    has_end: Flags
    control_text: Flags
    contents: npt.NDArray[np.uint64] | None = None
    signatures: Signatures | None = None
    label_codes: Counts | None = None
    label_names: Sequence[str] = ()
    duplicates: int = 0


def x_ray(
    sides: Mapping[str, SideArrays],
    part: DataPart,
    *,
    model: str,
    task: str,
    form: str,
    adds_bos: bool,
    dropped: Sequence[DroppedRows] = (),
    notes: Sequence[str] = (),
    serving: ServingCheck | None = None,
    look_up: RowLookUp | None = None,
) -> XRay:
    """Look at every side and between them, and judge what is found.

    Args:
        sides: The arrays by side, in the order train, validation, test.
        part: The recipe's data part, for the length limit and the policies.
        model: What the model is called.
        task: What the rows are for.
        form: The form of the rows.
        adds_bos: Whether the tokenizer puts a begin token before every text.
        dropped: Rows that never became arrays, by reason.
        notes: What else should be known, in sentences.
        serving: The result of `check_serving`.
        look_up: Finds the name and text of a row to be shown; without it rows have numbers.
    """
    find = look_up or _row_number
    labels = {name: _labels(arrays) for name, arrays in sides.items()}
    comparable = [
        Comparable(name, arrays.contents, arrays.signatures) for name, arrays in sides.items()
    ]
    facts = XRay(
        model=model,
        task=task,
        format=form,
        max_length=part.max_length,
        overflow=part.overflow,
        on_bad_row=part.on_bad_row,
        adds_bos=adds_bos,
        sides={
            name: _describe(name, arrays, labels[name], part.max_length, find)
            for name, arrays in sides.items()
        },
        overlaps=tuple(
            find_overlap(later, earlier, find) for earlier, later in combinations(comparable, 2)
        ),
        lonely_labels=lonely_labels(labels),
        dropped=tuple(dropped),
        notes=tuple(notes),
        serving=serving,
    )
    return replace(facts, verdicts=judge(facts))


def _row_number(side: str, row: int) -> RowText:
    return RowText(f"row {row + 1} of {side}", "")


def _labels(arrays: SideArrays) -> Counter[str]:
    if arrays.label_codes is None:
        return Counter()
    return count_labels(arrays.label_codes, arrays.label_names)


def _describe(
    name: str, arrays: SideArrays, labels: Counter[str], max_length: int, find: RowLookUp
) -> SideXRay:
    count = _row_counter(arrays)
    is_long = arrays.lengths > max_length
    is_used = arrays.used_lengths > 0
    # A chunk of a text, or a window of a context, repeats tokens of the one before: more is used
    # than there was.
    lost = np.maximum(0, arrays.lengths.astype(np.int64) - arrays.used_lengths)
    lost_supervised = np.maximum(0, arrays.supervised.astype(np.int64) - arrays.used_supervised)
    return SideXRay(
        rows=arrays.num_rows,
        examples=len(arrays.lengths),
        used_examples=arrays.num_used,
        duplicates=arrays.duplicates,
        tokens=int(arrays.lengths.sum()),
        supervised_tokens=int(arrays.supervised.sum()),
        lengths=measure(arrays.lengths),
        rows_too_long=count(is_long),
        rows_cut=count(is_long & is_used & (lost > 0)),
        rows_left_out=count(is_long & ~is_used),
        lost_tokens=int(lost[is_long].sum()),
        lost_supervised_tokens=int(lost_supervised[is_long].sum()),
        rows_unsupervised=_rows_unsupervised(arrays),
        rows_without_end_of_turn=count(~arrays.has_end),
        rows_with_control_text=count(arrays.control_text),
        bos=_count_bos(arrays, count),
        labels=balance(labels, arrays.num_rows),
        near=None if arrays.signatures is None else find_near(name, arrays.signatures, find),
    )


def _row_counter(arrays: SideArrays) -> Callable[[Flags], int]:
    """Return what counts the rows that have a flagged example."""

    def count(is_flagged: Flags) -> int:
        return len(np.unique(arrays.example_row[is_flagged]))

    return count


def _rows_unsupervised(arrays: SideArrays) -> int:
    supervised = np.unique(arrays.example_row[arrays.supervised > 0])
    return len(np.unique(arrays.example_row)) - len(supervised)


def _count_bos(arrays: SideArrays, count: Callable[[Flags], int]) -> BosCounts:
    """Count each row by the example of it that is worst off."""
    several, none = arrays.num_bos > 1, arrays.num_bos == 0
    rows = len(np.unique(arrays.example_row))
    num_several = count(several)
    is_counted = np.isin(arrays.example_row, arrays.example_row[several])
    num_none = count(none & ~is_counted)
    return BosCounts(none=num_none, one=rows - num_several - num_none, several=num_several)
