"""Scores of answers found in a text, as SQuAD defines them (Rajpurkar et al., 2016 and 2018).

Both sides are compared without case, punctuation, articles and white space. An answer counts by the
reference that it is nearest to. A reference without a text means that there is no answer, which an
empty answer gets right.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from tunesmith.tasks.scores.score import Array, Metric, column, mean

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


def _best_exact(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    return column(
        [
            max(_exact(answer, one) for one in right or ("",))
            for answer, right in zip(answers, references, strict=True)
        ]
    )


def _best_f1(answers: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
    return column(
        [
            max(_f1(answer, one) for one in right or ("",))
            for answer, right in zip(answers, references, strict=True)
        ]
    )


ANSWERS = {
    "squad-f1": Metric("squad-f1", _best_f1, mean),
    "squad-em": Metric("squad-em", _best_exact, mean, is_share=True),
}
