"""ROUGE (Lin, 2004): words, pairs of words and the longest common run that a summary shares.

F measures, the mean over rows, by the rouge-score library without its stemmer.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from tunesmith.tasks.scores.score import Array, Metric, column, mean

_NAMES = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL"}


def _f_measures(name: str, answers: Sequence[str], references: Sequence[str]) -> Array:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = _NAMES[name]
    scorer = RougeScorer([theirs], use_stemmer=False)
    pairs = zip(answers, references, strict=True)
    return column([scorer.score(reference, answer)[theirs].fmeasure for answer, reference in pairs])


def _signature() -> str:
    return f"rouge-score {version('rouge-score')}, F measure, no stemmer"


def _of(name: str) -> Metric:
    return Metric(
        name,
        lambda answers, references: _f_measures(name, answers, references),
        mean,
        signature=_signature,
    )


SUMMARIES = {name: _of(name) for name in _NAMES}
