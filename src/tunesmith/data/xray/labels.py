"""How the labels of labelled rows are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class LabelCount:
    """A label and the rows that have it."""

    label: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelBalance:
    """The labels of a side, the frequent ones by name; `other_labels` are the rest.

    `imbalance` is how many times the most frequent label is more frequent than the rarest.
    """

    labels: int
    labelled_rows: int
    unlabelled_rows: int
    most_frequent: tuple[LabelCount, ...]
    other_labels: int
    other_rows: int
    imbalance: float


@dataclass(frozen=True, slots=True)
class LonelyLabels:
    """Labels of a side that another side lacks: how many, and the first by name."""

    side: str
    missing_in: str
    labels: int
    rows: int
    names: tuple[str, ...]


def count_labels(codes: npt.NDArray[np.integer], names: Sequence[str]) -> Counter[str]:
    """Count rows by label; a code below 0 is a row without one."""
    counts = np.bincount(codes[codes >= 0], minlength=len(names)).tolist()
    return Counter({name: count for name, count in zip(names, counts, strict=True) if count})


def balance(counts: Counter[str], num_rows: int) -> LabelBalance | None:
    """Describe the counts, or return None where no row has a label."""
    if not counts:
        return None
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, others = ordered[:MAX_SHOWN], ordered[MAX_SHOWN:]
    return LabelBalance(
        labels=len(ordered),
        labelled_rows=counts.total(),
        unlabelled_rows=num_rows - counts.total(),
        most_frequent=tuple(LabelCount(*item) for item in shown),
        other_labels=len(others),
        other_rows=sum(rows for _, rows in others),
        imbalance=ordered[0][1] / ordered[-1][1],
    )


def lonely_labels(counts: Mapping[str, Counter[str]]) -> tuple[LonelyLabels, ...]:
    """Find the labels that are in one side only, for each two sides that have labels at all."""
    labelled = {side: found for side, found in counts.items() if found}
    return tuple(
        LonelyLabels(
            side=side,
            missing_in=other,
            labels=len(lonely),
            rows=sum(found[label] for label in lonely),
            names=tuple(lonely[:MAX_SHOWN]),
        )
        for side, found in labelled.items()
        for other in labelled
        if (lonely := sorted(found.keys() - labelled[other].keys()))
    )
