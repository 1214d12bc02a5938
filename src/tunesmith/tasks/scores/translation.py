"""BLEU (Papineni et al., 2002) and chrF (Popovic, 2015) of a corpus, by sacreBLEU.

Values are sacreBLEU's divided by 100. A bootstrap adds up the sentences' own counts, as sacreBLEU's
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tunesmith.tasks.scores.score import Array, Metric


@cache
def _metric(name: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return BLEU() if name == "bleu" else CHRF()


def _statistics(name: str, answers: Sequence[str], references: Sequence[str]) -> Array:
    metric = _metric(name)
    counts = metric._extract_corpus_statistics(list(answers), [list(references)])
    return np.array(counts, dtype=np.float64)


def _value(name: str, sums: Array) -> Array:
    metric = _metric(name)
    flat = sums.reshape(-1, sums.shape[-1])
    values = [metric._compute_score_from_stats(list(one)).score / 100 for one in flat]
    return np.array(values).reshape(sums.shape[:-1])


def _signature(name: str) -> str:
    # Known only once it has seen references, of which there is one a row.
    metric = _metric(name)
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def _of(name: str) -> Metric:
    return Metric(
        name,
        lambda answers, references: _statistics(name, answers, references),
        lambda sums, _: _value(name, sums),
        signature=lambda: _signature(name),
    )


TRANSLATION = {name: _of(name) for name in ("bleu", "chrf")}
