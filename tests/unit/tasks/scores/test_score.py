from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import seqeval.metrics
import sklearn.metrics
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tunesmith.tasks.scores.classes import SINGLE
from tunesmith.tasks.scores.entities import ENTITIES
from tunesmith.tasks.scores.score import Array, Metric, column, difference, mean, score
from tunesmith.tasks.scores.texts import TEXTS
from tunesmith.tasks.scores.translation import TRANSLATION

MEAN = Metric("mean", lambda answers, _: column(list(answers)), mean)
ROWS = 40


def drawn(seed: int) -> tuple[list[int], Array]:
    """Rows drawn with replacement, and how often each was."""
    rows = np.random.default_rng(seed).integers(ROWS, size=ROWS)
    return rows.tolist(), np.bincount(rows, minlength=ROWS).astype(np.float64)


def value_of(metric: Metric, counts: Array, answers: list[str], references: list[str]) -> float:
    return float(metric.value(counts @ metric.statistics(answers, references), ROWS))


def labels(seed: int) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    references = random.choice(list("abcdef"), size=ROWS, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    answers = np.where(random.random(ROWS) < 0.6, references, random.choice(list("abcdef"), ROWS))
    return answers.tolist(), references.tolist()


def texts(seed: int, words: list[str]) -> tuple[list[list[str]], list[list[str]]]:
    random = np.random.default_rng(seed)
    references = [random.choice(words, size=random.integers(5, 12)).tolist() for _ in range(ROWS)]
    answers = [
        [word if random.random() < 0.8 else str(random.choice(words)) for word in text]
        for text in references
    ]
    return answers, references


@pytest.mark.parametrize("seed", range(3))
def test_a_draw_of_classes_is_scored_as_scikit_learn_scores_its_rows(seed: int) -> None:
    answers, references = labels(seed)
    rows, counts = drawn(seed + 10)
    said, so = [answers[row] for row in rows], [references[row] for row in rows]
    expected = {
        "macro-f1": sklearn.metrics.f1_score(so, said, average="macro"),
        "micro-f1": sklearn.metrics.f1_score(so, said, average="micro"),
        "mcc": sklearn.metrics.matthews_corrcoef(so, said),
    }
    for name, value in expected.items():
        found = value_of(SINGLE[name], counts, answers, references)
        assert found == pytest.approx(value, abs=1e-12), name


def test_a_draw_of_entities_is_scored_as_seqeval_scores_its_rows() -> None:
    answers, references = texts(1, ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    rows, counts = drawn(2)
    said, so = [answers[row] for row in rows], [references[row] for row in rows]
    found = value_of(ENTITIES["entity-f1"], counts, answers, references)
    assert found == pytest.approx(seqeval.metrics.f1_score(so, said))


def test_a_draw_of_translations_is_scored_as_sacrebleu_scores_its_rows() -> None:
    pairs = texts(3, ["ein", "Hund", "rennt", "im", "Park", ",", "eine", "Katze", "auf", "dem"])
    answers, references = ([" ".join(words) for words in side] for side in pairs)
    rows, counts = drawn(4)
    said, so = [answers[row] for row in rows], [references[row] for row in rows]
    for name, library in (("bleu", BLEU()), ("chrf", CHRF())):
        found = value_of(TRANSLATION[name], counts, answers, references)
        assert found == pytest.approx(library.corpus_score(said, [so]).score / 100), name


def test_the_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    found = score(MEAN, values.tolist(), values.tolist(), draws=4000)
    spread = 1.96 * values.std() / np.sqrt(400)
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - spread, values.mean() + spread), abs=0.02
    )


def test_the_interval_of_a_difference_is_that_of_the_paired_rows() -> None:
    random = np.random.default_rng(2)
    before = random.normal(0.0, 5.0, size=400)  # rows differ much, and what each gains does little
    gains = random.normal(0.5, 1.0, size=400)
    found = difference(MEAN, before.tolist(), (before + gains).tolist(), before.tolist())
    spread = 1.96 * gains.std() / np.sqrt(400)
    assert found.value == pytest.approx(gains.mean())
    assert (found.low, found.high) == pytest.approx(
        (gains.mean() - spread, gains.mean() + spread), abs=0.02
    )


def test_a_difference_is_after_minus_before() -> None:
    answers = ["a"] * 40 + ["x"] * 10
    found = difference(TEXTS["exact-match"], ["x"] * 50, answers, ["a"] * 50)
    assert found.value == pytest.approx(0.8)


def test_another_seed_gives_another_interval_that_is_near() -> None:
    values = np.random.default_rng(3).random(60).tolist()
    one, other = (score(MEAN, values, values, seed=seed) for seed in (5, 6))
    assert one.low != other.low
    assert one.low == pytest.approx(other.low, abs=0.03)


def test_all_right_is_an_interval_and_no_point_where_rows_are_right_or_wrong() -> None:
    found = score(TEXTS["exact-match"], ["a"] * 20, ["a"] * 20)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8389, abs=1e-4)  # Wilson: 1 / (1 + 1.96 ** 2 / 20)


def test_one_row_says_nothing_of_other_rows() -> None:
    found = score(MEAN, [0.3], [0.3])
    assert (found.value, found.low, found.high) == (0.3, None, None)
    gained = difference(MEAN, [0.25], [0.5], [0.5])
    assert (gained.value, gained.low, gained.high) == (0.25, None, None)


def test_many_classes_over_many_rows_take_little_memory() -> None:
    random = np.random.default_rng(5)
    said, so = (random.integers(150, size=10_000).astype(str).tolist() for _ in range(2))
    tracemalloc.start()
    score(SINGLE["macro-f1"], said, so, draws=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6  # a table of draws, rows and counts would take 7.2 GB
