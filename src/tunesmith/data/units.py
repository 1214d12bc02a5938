"""What is planned as one: an example, or the two answers of a preference.

    examples   chosen 1, rejected 1, chosen 2, rejected 2      (indices 0 1 2 3)
    units      (0, 1), (2, 3)

A micro-batch of pairs holds each pair's chosen answer and behind it the rejected one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tunesmith.core.errors import DataError, Fault
from tunesmith.data.pack import StepPlan
from tunesmith.data.prepared.examples import Examples


@dataclass(frozen=True, eq=False)
class Units:
    """`members` are the examples of each unit: [units, examples of a unit]."""

    members: npt.NDArray[np.int64]
    lengths: Sequence[int]
    padded: Sequence[int]

    def spell_out(self, plan: Sequence[StepPlan]) -> tuple[StepPlan, ...]:
        """Name the examples of a plan in place of its units."""
        return tuple(
            replace(
                step,
                micro_batches=tuple(
                    tuple(self.members[list(units)].ravel().tolist())
                    for units in step.micro_batches
                ),
            )
            for step in plan
        )


def single_units(examples: Examples) -> Units:
    """Each example by itself."""
    lengths = examples.lengths.tolist()
    return Units(np.arange(len(examples))[:, None], lengths, lengths)


def pair_units(examples: Examples, *, file: str, loss: str) -> Units:
    """A chosen answer with the rejected one of its row.

    Raises:
        DataError: a row has one answer only, which was rated.
    """
    rows, rejected = examples.rows, examples.is_rejected
    _, first, counts = np.unique(rows, return_index=True, return_counts=True)
    alone = np.flatnonzero(counts != 2)
    if len(alone):
        row_id = examples[int(first[alone[0]])].row_id
        found = f"{len(alone)} rows with one rated answer, first {row_id}; {loss} learns from pairs"
        fix = "use task.loss: kto, or rows with a chosen and a rejected answer"
        raise DataError(Fault(found=found, where=file, fix=fix))
    assert not rejected[first].any(), "the chosen answer of a row comes first"
    assert rejected[first + 1].all(), "and the rejected one behind it"
    members = np.stack([first, first + 1], axis=1)
    lengths = examples.lengths[members]
    return Units(members, lengths.sum(1).tolist(), (2 * lengths.max(1)).tolist())


def rated_units(examples: Examples, *, file: str) -> Units:
    """Each answer by itself, where there are good and bad ones.

    Raises:
        DataError: all of them are of one kind.
    """
    rejected = examples.is_rejected
    if rejected.all() or not rejected.any():
        kind, other = ("bad", "good") if rejected.all() else ("good", "bad")
        found = f"all {len(examples)} answers are rated {kind}; kto learns from both kinds"
        fix = f"add answers that are rated {other}"
        if kind == "good":
            fix += ", or use task: chat, which learns from good answers alone"
        raise DataError(Fault(found=found, where=file, fix=fix))
    return single_units(examples)
