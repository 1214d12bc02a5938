"""Scores of named entities: an entity is right where its type and both its ends are.

Answers and references are tags in IOB2, one for each token. What is an entity is seqeval's rule in
its default mode, which is that of the CoNLL-2000 script: an I- that follows nothing of its type
begins an entity, too. Its strict mode, for which that is none, is in the details.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import numpy as np

from tunesmith.tasks.scores.score import Array, Metric

Tags = Sequence[str]


def _entities(tags: Tags) -> set[tuple[str, int, int]]:
    from seqeval.metrics.sequence_labeling import get_entities

    return set(get_entities(list(tags)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _pairs(
    answers: Sequence[Tags], references: Sequence[Tags]
) -> list[tuple[set[tuple[str, int, int]], set[tuple[str, int, int]]]]:
    unequal = [
        f"row {row}: {len(answer)} tags for {len(reference)} tokens"
        for row, (answer, reference) in enumerate(zip(answers, references, strict=True), 1)
        if len(answer) != len(reference)
    ]
    if unequal:
        raise ValueError(f"{len(unequal)} rows of unequal lengths: {'; '.join(unequal[:5])}")
    both = zip(answers, references, strict=True)
    return [(_entities(answer), _entities(reference)) for answer, reference in both]


def _counts(answers: Sequence[Tags], references: Sequence[Tags]) -> Array:
    """Return [R, 3]: entities that are right, that were said, and that there are."""
    pairs = _pairs(answers, references)
    return np.array([[len(said & so), len(said), len(so)] for said, so in pairs], dtype=np.float64)


def _f1(sums: Array, rows: int) -> Array:  # noqa: ARG001 (the counts say it all)
    right, total = sums[..., 0], sums[..., 1] + sums[..., 2]
    return np.divide(2 * right, total, out=np.zeros_like(right), where=total > 0)


def _details(answers: Sequence[Tags], references: Sequence[Tags]) -> Mapping[str, float]:
    """Precision and recall, the strict F1, and F1 of each type."""
    right, said, so = Counter[str](), Counter[str](), Counter[str]()
    for answer, reference in _pairs(answers, references):
        right.update(kind for kind, _, _ in answer & reference)
        said.update(kind for kind, _, _ in answer)
        so.update(kind for kind, _, _ in reference)
    kinds = sorted({*said, *so})
    return {
        "precision": right.total() / max(said.total(), 1),
        "recall": right.total() / max(so.total(), 1),
        "strict f1": _strict_f1(answers, references),
        **{f"f1 {kind}": 2 * right[kind] / (said[kind] + so[kind]) for kind in kinds},
    }


def _strict_f1(answers: Sequence[Tags], references: Sequence[Tags]) -> float:
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    said, so = ([list(tags) for tags in side] for side in (answers, references))
    return float(f1_score(so, said, mode="strict", scheme=IOB2, zero_division=0))  # pyright: ignore[reportArgumentType]


ENTITIES = {
    "entity-f1": Metric(
        "entity-f1",
        _counts,
        _f1,
        details=_details,
        signature=lambda: f"seqeval {version('seqeval')}",
    )
}
