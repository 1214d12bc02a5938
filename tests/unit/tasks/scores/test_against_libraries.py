"""Our scores of a corpus are the libraries' own, and their intervals say what intervals should."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import sacrebleu
import seqeval.metrics
import sklearn.metrics
from rouge_score.rouge_scorer import RougeScorer
from seqeval.scheme import IOB2

from tunesmith.tasks.scores.answers import ANSWERS
from tunesmith.tasks.scores.classes import SEVERAL, SINGLE, confusion
from tunesmith.tasks.scores.entities import ENTITIES
from tunesmith.tasks.scores.score import difference, score
from tunesmith.tasks.scores.summaries import SUMMARIES
from tunesmith.tasks.scores.texts import TEXTS
from tunesmith.tasks.scores.translation import TRANSLATION

SENTENCES = [
    "the cat sat on the mat", "a dog barks at the moon", "it rains in the hills today",
    "we went home by the river", "nothing is lost", "the moon rose over the old town",
]  # fmt: skip


def labels(seed: int, rows: int = 60, classes: str = "abcde") -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    references = [draw.choice(classes) for _ in range(rows)]
    answers = [one if draw.random() < 0.6 else draw.choice(classes) for one in references]
    return answers, references


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_scored_as_scikit_learn_does(seed: int) -> None:
    answers, references = labels(seed)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(references, answers),
        "macro-f1": sklearn.metrics.f1_score(references, answers, average="macro"),
        "micro-f1": sklearn.metrics.f1_score(references, answers, average="micro"),
        "mcc": sklearn.metrics.matthews_corrcoef(references, answers),
    }
    for name, value in expected.items():
        found = score(SINGLE[name], answers, references)
        assert found.value == pytest.approx(value), name
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
    names, matrix = confusion(answers, references)
    assert names == sorted({*references, *answers})
    theirs = sklearn.metrics.confusion_matrix(references, answers)
    assert matrix[:, :-1].tolist() == theirs.tolist()


def test_several_classes_are_scored_as_scikit_learn_does() -> None:
    draw = random.Random(0)
    rows = [[int(draw.random() < 0.4) for _ in range(4)] for _ in range(80)]
    said = [[one if draw.random() < 0.8 else 1 - one for one in row] for row in rows]
    as_sets = [
        [frozenset("abcd"[place] for place, one in enumerate(row) if one) for row in side]
        for side in (said, rows)
    ]
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(rows, said),
        "macro-f1": sklearn.metrics.f1_score(rows, said, average="macro"),
        "micro-f1": sklearn.metrics.f1_score(rows, said, average="micro"),
    }
    for name, value in expected.items():
        assert score(SEVERAL[name], *as_sets).value == pytest.approx(value), name


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_are_no_label_are_scored_as_scikit_learn_does_without_that_class(
    seed: int,
) -> None:
    named, references = labels(seed)
    named[::5] = ["none of these"] * len(named[::5])
    answers = [None if one == "none of these" else one for one in named]
    known = list("abcde")
    macro, micro = (
        sklearn.metrics.f1_score(references, named, labels=known, average=average)
        for average in ("macro", "micro")
    )
    assert score(SINGLE["macro-f1"], answers, references).value == pytest.approx(macro)
    assert score(SINGLE["micro-f1"], answers, references).value == pytest.approx(micro)
    coefficient = sklearn.metrics.matthews_corrcoef(references, named)
    assert score(SINGLE["mcc"], answers, references).value == pytest.approx(coefficient)


@pytest.mark.parametrize("name", SINGLE)
def test_one_class_and_no_right_answer_have_a_score(name: str) -> None:
    assert score(SINGLE[name], [None, None, None], ["a", "a", "a"]).value == 0.0
    assert score(SINGLE[name], ["a", "a"], ["a", "a"]).value == (0.0 if name == "mcc" else 1.0)


def test_texts_to_which_no_class_applies_are_right_without_one_and_have_no_f1() -> None:
    empty = [frozenset[str](), frozenset[str]()]
    assert score(SEVERAL["accuracy"], empty, empty).value == 1.0
    assert score(SEVERAL["macro-f1"], empty, empty).value == 0.0
    assert score(SEVERAL["micro-f1"], empty, empty).value == 0.0


def test_an_answer_that_is_no_label_is_wrong_and_no_class() -> None:
    answers, references = ["a", None, "b"], ["a", "a", "b"]
    assert score(SINGLE["accuracy"], answers, references).value == pytest.approx(2 / 3)
    assert score(SINGLE["macro-f1"], answers, references).value == pytest.approx((2 / 3 + 1) / 2)
    assert confusion(answers, references)[1].tolist() == [[1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_entities_are_scored_as_seqeval_does(seed: int) -> None:
    draw = random.Random(seed)
    tags = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    references = [[draw.choice(tags) for _ in range(draw.randint(1, 9))] for _ in range(40)]
    answers = [
        [tag if draw.random() < 0.7 else draw.choice(tags) for tag in row] for row in references
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = seqeval.metrics.f1_score(references, answers)
        precision = seqeval.metrics.precision_score(references, answers)
        recall = seqeval.metrics.recall_score(references, answers)
    found = score(ENTITIES["entity-f1"], answers, references)
    assert found.value == pytest.approx(expected)
    assert found.details["precision"] == pytest.approx(precision)
    assert found.details["recall"] == pytest.approx(recall)
    strict = seqeval.metrics.f1_score(references, answers, mode="strict", scheme=IOB2)
    assert found.details["strict f1"] == pytest.approx(strict)
    assert strict != expected
    report = seqeval.metrics.classification_report(references, answers, output_dict=True)
    for kind in ("PER", "LOC"):
        assert found.details[f"f1 {kind}"] == pytest.approx(report[kind]["f1-score"])


def test_an_inner_tag_alone_is_an_entity_but_not_strictly() -> None:
    found = score(ENTITIES["entity-f1"], [["I-LOC", "I-LOC"]], [["B-LOC", "I-LOC"]])
    assert (found.value, found.details["strict f1"]) == (1.0, 0.0)


def test_an_entity_is_right_as_a_whole_only_and_ends_with_its_row() -> None:
    assert score(ENTITIES["entity-f1"], [["B-LOC", "O"]], [["B-LOC", "I-LOC"]]).value == 0.0
    rows = [["B-PER"], ["I-PER"]]
    assert ENTITIES["entity-f1"].statistics(rows, rows).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_rows_of_unequal_lengths_are_named_and_never_left_out() -> None:
    with pytest.raises(ValueError, match="row 2: 1 tags for 2 tokens"):
        score(ENTITIES["entity-f1"], [["O"], ["O"]], [["O"], ["O", "B-X"]])


@pytest.mark.parametrize(("name", "theirs"), [("bleu", "BLEU"), ("chrf", "CHRF")])
def test_translations_are_scored_as_sacrebleu_does(name: str, theirs: str) -> None:
    answers = [text.replace("the", "a") for text in SENTENCES]
    metric = getattr(sacrebleu.metrics, theirs)()
    expected = metric.corpus_score(answers, [SENTENCES]).score / 100
    found = score(TRANSLATION[name], answers, SENTENCES)
    assert found.value == pytest.approx(expected)
    assert f"version:{sacrebleu.__version__}" in found.signature


def test_summaries_are_scored_as_rouge_score_does() -> None:
    answers = [" ".join(text.split()[1:]) for text in SENTENCES]
    scorer = RougeScorer(["rougeL"])
    expected = [
        scorer.score(text, answer)["rougeL"].fmeasure
        for text, answer in zip(SENTENCES, answers, strict=True)
    ]
    found = score(SUMMARIES["rouge-l"], answers, SENTENCES)
    assert found.value == pytest.approx(np.mean(expected))
    assert found.details == {}


def test_a_longest_common_run_may_have_gaps_and_keeps_the_order() -> None:
    # The example of Lin 2004, section 3.1: the same words in another order are worth less.
    reference = ["police killed the gunman"]
    assert score(SUMMARIES["rouge-l"], ["police kill the gunman"], reference).value == 0.75
    assert score(SUMMARIES["rouge-l"], ["the gunman kill police"], reference).value == 0.5


def test_references_that_rouge_cannot_read_are_told() -> None:
    texts = ["\u4f60\u597d", "hello"]
    found = score(SUMMARIES["rouge-1"], texts, texts)
    assert (found.value, found.details) == (0.5, {"references without a word": 0.5})


@pytest.mark.parametrize(
    ("answer", "references", "f1", "em"),
    [
        ("The Bled!", ["bled", "in Bled"], 1.0, 1.0),
        ("in Bled today", ["lake Bled"], 0.4, 0.0),
        ("", [], 1.0, 1.0),
        ("Bled", [], 0.0, 0.0),
        ("", ["Bled"], 0.0, 0.0),
    ],
)
def test_answers_count_by_the_nearest_reference(
    answer: str, references: list[str], f1: float, em: float
) -> None:
    assert score(ANSWERS["squad-f1"], [answer], [references]).value == pytest.approx(f1)
    assert score(ANSWERS["squad-em"], [answer], [references]).value == em


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("so 2 + 2 = 4.", "#### 4", True), ("$1,000", "1000", True), ("-3", "3", False),
        ("2.50 dollars", "2.5", True), ("none", "4", False), ("4 or 5", "4", False),
    ],
)  # fmt: skip
def test_numbers_are_compared_by_their_value(answer: str, reference: str, right: bool) -> None:
    assert score(TEXTS["numeric-match"], [answer], [reference]).value == float(right)


ALL: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "accuracy": (SINGLE["accuracy"], *labels(1)),
    "macro-f1": (SINGLE["macro-f1"], *labels(1)),
    "mcc": (SINGLE["mcc"], *labels(1)),
    "bleu": (TRANSLATION["bleu"], [text[:-4] for text in SENTENCES], SENTENCES),
    "entity-f1": (ENTITIES["entity-f1"], [["B-X", "O"]] * 9, [["B-X", "B-X"]] * 9),
}


@pytest.mark.parametrize("name", ALL)
def test_the_same_answers_differ_by_nothing(name: str) -> None:
    metric, answers, references = ALL[name]
    found = difference(metric, answers, answers, references, draws=50)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ALL)
def test_a_score_is_the_same_whenever_it_is_computed(name: str) -> None:
    metric, answers, references = ALL[name]
    first, second = (score(metric, answers, references, draws=100) for _ in range(2))
    assert first == second


def test_a_paired_difference_is_surer_than_two_intervals_apart() -> None:
    _, references = labels(0, rows=400)
    draw = random.Random(3)
    is_hard = [draw.random() < 0.5 for _ in references]
    before = ["?" if hard else one for hard, one in zip(is_hard, references, strict=True)]
    gained = [draw.random() < 0.05 for _ in references]
    after = [
        one if gain else earlier
        for earlier, one, gain in zip(before, references, gained, strict=True)
    ]
    found = difference(SINGLE["accuracy"], before, after, references)
    assert 0 < found.low < found.value < found.high
    sides = [score(SINGLE["accuracy"], side, references) for side in (before, after)]
    assert sides[0].high is not None
    assert sides[1].low is not None
    assert sides[1].low < sides[0].high  # apart, the two intervals would say nothing


def test_most_intervals_hold_the_true_value() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        hits = draw.random(200) < 0.3
        references = [str(int(one)) for one in hits]
        found = score(SINGLE["macro-f1"], ["1"] * 200, references, draws=200)
        truth = 2 * 0.3 / 1.3 / 2  # one class is never said
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 88 <= held <= 100
