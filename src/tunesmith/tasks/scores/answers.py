"""Scores of answers found in a text, as SQuAD defines them (Rajpurkar et al., 2016 and 2018).

Both sides are compared without case, punctuation, articles and white space. An answer counts by the
reference that it is nearest to. A reference without a text means that there is no answer, which an
empty answer gets right.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean

from tunesmith.tasks.scores.score import Metric, column, mean

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Return a text without what does not count."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _exact(answer: str, reference: str) -> float:
    return float(normalize(answer) == normalize(reference))


def _f1(answer: str, reference: str) -> float:
    said, so = normalize(answer).split(), normalize(reference).split()
    if not said or not so:
        return float(said == so)
    shared = (Counter(said) & Counter(so)).total()
    return 2 * shared / (len(said) + len(so))


Measure = Callable[[str, str], float]


def _best(
    measure: Measure, answers: Sequence[str], references: Sequence[Sequence[str]]
) -> list[float]:
    """How near each answer is to the nearest of its references."""
    pairs = zip(answers, references, strict=True)
    return [max(measure(answer, one) for one in right or ("",)) for answer, right in pairs]


def _by_answerable(
    measure: Measure, answers: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The same of rows with an answer and of rows without one, where there are both.

    SQuAD 2.0 calls them HasAns and NoAns.
    """
    each = _best(measure, answers, references)
    has_answer = [any(map(normalize, right)) for right in references]
    if all(has_answer):
        return {}
    names = {True: "with an answer", False: "without an answer"}
    return {
        name: fmean(value for value, has in zip(each, has_answer, strict=True) if has is which)
        for which, name in names.items()
        if which in has_answer
    }


def _metric(name: str, measure: Measure, *, is_share: bool) -> Metric:
    return Metric(
        name,
        lambda answers, references: column(_best(measure, answers, references)),
        mean,
        is_share=is_share,
        details=partial(_by_answerable, measure),
    )


ANSWERS = {
    "squad-f1": _metric("squad-f1", _f1, is_share=False),
    "squad-em": _metric("squad-em", _exact, is_share=True),
}
