"""ROUGE (Lin, 2004): words, pairs of words and the longest common run that a summary shares.

F measures, the mean over rows, by the rouge-score library without its stemmer. Its words are runs
of a-z and 0-9, and any other letter parts words. So it reads English, and nothing of a text in
another script: such a row is 0, and the details say how many of the references are so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from tunesmith.tasks.scores.score import Array, Metric, column, mean, share_of

_NAMES = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-l": "rougeL"}


def _f_measures(name: str, answers: Sequence[str], references: Sequence[str]) -> Array:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = _NAMES[name]
    scorer = RougeScorer([theirs], use_stemmer=False)
    pairs = zip(answers, references, strict=True)
    return column([scorer.score(reference, answer)[theirs].fmeasure for answer, reference in pairs])


def _unread(answers: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
    from rouge_score.tokenize import tokenize

    del answers
    unread = share_of([not any(tokenize(text, None)) for text in references]).value
    return {"references without a word": unread} if unread else {}


def _signature() -> str:
    return f"rouge-score {version('rouge-score')}, F measure, no stemmer, words of a-z and 0-9"


def _of(name: str) -> Metric:
    return Metric(
        name,
        lambda answers, references: _f_measures(name, answers, references),
        mean,
        details=_unread,
        signature=_signature,
    )


SUMMARIES = {name: _of(name) for name in _NAMES}
