"""Scores of classes: one for each text, or several.

    single     an answer is a label, or None where it is none; a reference is a label
    several    both are sets of labels

F1 of a class is 2 tp / (2 tp + fp + fn); `macro` is the mean over the classes that occur in answers
or references, `micro` counts all classes as one. `mcc` is Matthews' coefficient for several classes
(Gorodkin, 2004), from -1 to 1. An answer that is no label is wrong, and no class of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tunesmith.tasks.scores.score import Array, Metric, column, mean

Label = str | None
Labels = frozenset[str]


def _accuracy(answers: Sequence[object], references: Sequence[object]) -> Array:
    pairs = zip(answers, references, strict=True)
    return column([float(answer == reference) for answer, reference in pairs])


def _single_counts(answers: Sequence[Label], references: Sequence[Label]) -> Array:
    return _counts(_sets(answers), _sets(references))


def _single_totals(answers: Sequence[Label], references: Sequence[Label]) -> Array:
    return _totals(_sets(answers), _sets(references))


def _sets(labels: Sequence[Label]) -> list[Labels]:
    return [frozenset() if label is None else frozenset([label]) for label in labels]


def _counts(answers: Sequence[Labels], references: Sequence[Labels]) -> Array:
    """Return [R, 3 K]: of each class whether it is right, wrongly said, and missed."""
    order = _order([*answers, *references])
    counts = np.zeros((len(references), 3, len(order)))
    for row, (answer, reference) in enumerate(zip(answers, references, strict=True)):
        for kind, labels in enumerate((answer & reference, answer - reference, reference - answer)):
            counts[row, kind, [order[label] for label in labels]] = 1
    return counts.reshape(len(references), -1)


def _totals(answers: Sequence[Labels], references: Sequence[Labels]) -> Array:
    """Return [R, 3]: the same of all classes together."""
    pairs = zip(answers, references, strict=True)
    counts = [(len(one & other), len(one - other), len(other - one)) for one, other in pairs]
    return np.array(counts, dtype=np.float64)


def _order(sets: Iterable[Labels]) -> dict[str, int]:
    return {label: place for place, label in enumerate(sorted(frozenset().union(*sets)))}


def _macro_f1(sums: Array, rows: int) -> Array:  # noqa: ARG001 (the counts say it all)
    right, said, missed = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    total = 2 * right + said + missed
    f1 = np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)
    return f1.sum(-1) / np.maximum((total > 0).sum(-1), 1)


def _micro_f1(sums: Array, rows: int) -> Array:  # noqa: ARG001 (the counts say it all)
    right, said, missed = np.moveaxis(sums, -1, 0)
    total = 2 * right + said + missed
    return np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)


def _mcc_counts(answers: Sequence[Label], references: Sequence[Label]) -> Array:
    """Return [R, 1 + 2 K]: whether the row is right, what was said, and what is so."""
    known = [answer if answer is not None else "" for answer in answers]
    order = _order([frozenset(known), frozenset(one for one in references if one is not None)])
    counts = np.zeros((len(references), 1 + 2 * len(order)))
    for row, (answer, reference) in enumerate(zip(known, references, strict=True)):
        assert reference is not None, "a reference is a label"
        counts[row, 0] = answer == reference
        counts[row, 1 + order[answer]] = 1
        counts[row, 1 + len(order) + order[reference]] = 1
    return counts


def _mcc(sums: Array, rows: int) -> Array:
    right = sums[..., 0]
    said, so = np.moveaxis(sums[..., 1:].reshape(*sums.shape[:-1], 2, -1), -2, 0)
    covariance = right * rows - (said * so).sum(-1)
    spread = (rows**2 - (said**2).sum(-1)) * (rows**2 - (so**2).sum(-1))
    return np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)


def confusion(answers: Sequence[Label], references: Sequence[str]) -> tuple[list[str], Array]:
    """Return the labels, and how often each (row) was answered as each (column).

    The last column counts answers that are no label of these.
    """
    labels = sorted({*references, *(answer for answer in answers if answer is not None)})
    order = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels) + 1))
    for answer, reference in zip(answers, references, strict=True):
        counts[order[reference], len(labels) if answer is None else order[answer]] += 1
    return labels, counts


SINGLE = {
    "accuracy": Metric("accuracy", _accuracy, mean, is_share=True),
    "macro-f1": Metric("macro-f1", _single_counts, _macro_f1),
    "micro-f1": Metric("micro-f1", _single_totals, _micro_f1),
    "mcc": Metric("mcc", _mcc_counts, _mcc),
}
SEVERAL = {
    "accuracy": Metric("accuracy", _accuracy, mean, is_share=True),
    "macro-f1": Metric("macro-f1", _counts, _macro_f1),
    "micro-f1": Metric("micro-f1", _totals, _micro_f1),
}
