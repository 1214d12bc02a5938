from __future__ import annotations

import pytest

from tunesmith.data.conversation import Labelled
from tunesmith.recipe.task import ClassificationTask, NerTask, QaTask, Task, WrittenTask
from tunesmith.tasks.question import Question
from tunesmith.tasks.said import Said, tags_of, understand
from tunesmith.tasks.scores.table import differences_of, scores_of


def question(labelled: Labelled | None, reference: str = "r") -> Question:
    return Question("r:1", "p", (1,), reference, labelled)


ZAGREB = ("Ana", "saw", "Novi", "Sad", "and", "Ana")


@pytest.mark.parametrize(
    ("text", "tags", "lost"),
    [
        ("PER: Ana\nLOC: Novi Sad", "B-PER O B-LOC I-LOC O O", 0),
        ("LOC: Novi Sad\nPER: Ana", "O O B-LOC I-LOC O B-PER", 0),
        ("PER: Ana\nPER: Ana", "B-PER O O O O B-PER", 0),
        ("PER: Ana\nPER: Ana\nPER: Ana", "B-PER O O O O B-PER", 1),
        ("PER: Eva\nLOC: Novi", "O O B-LOC O O O", 1),
        ("none", "O O O O O O", 0),
        ("", "O O O O O O", 0),
        ("I see no entity", "O O O O O O", 1),
    ],
)
def test_written_entities_are_found_in_the_text(text: str, tags: str, lost: int) -> None:
    labelled = Labelled(kind="tags", texts=ZAGREB, labels=())
    assert tags_of(text, labelled) == (tags.split(), lost)


@pytest.mark.parametrize(
    ("text", "said"),
    [("late", ("late",)), (" Late.\n", ("late",)), ("it is late", ()), ("", ())],
)
def test_a_written_class_is_a_label_or_nothing(text: str, said: tuple[str, ...]) -> None:
    labelled = Labelled(kind="classes", texts=("t",), labels=("lost",))
    assert understand(question(labelled), text, ["late", "lost"]).said == said
    conversation = understand(question(None, "lost"), text, ["late", "lost"])
    assert (conversation.said, conversation.right) == (said, ("lost",))


def test_several_written_classes_are_read_apart() -> None:
    labelled = Labelled(kind="classes", texts=("t",), labels=("b", "a"))
    found = understand(question(labelled), "a, c, x", ["a", "b", "c"])
    assert (found.said, found.right) == (("a", "c"), ("a", "b"))


def test_any_right_answer_counts() -> None:
    labelled = Labelled(kind="answers", texts=("c", "q"), labels=("Bled", "in Bled"), starts=(3, 0))
    found = understand(question(labelled), "in bled\n", [])
    assert scores_of(QaTask(type="qa"), (), [found])["squad-em"].value == 1.0


@pytest.mark.parametrize(
    ("text", "right", "f1"),
    [
        ("unanswerable", (), 1.0), ("Unanswerable.\n", (), 1.0), ("", (), 1.0),
        ("Bled", (), 0.0), ("unanswerable", ("Bled",), 0.0),
        ("unanswerable", ("unanswerable",), 1.0),
    ],
)  # fmt: skip
def test_to_say_that_there_is_no_answer_is_right_where_there_is_none(
    text: str, right: tuple[str, ...], f1: float
) -> None:
    labelled = Labelled(kind="answers", texts=("c", "q"), labels=right)
    found = understand(question(labelled), text, [])
    assert scores_of(QaTask(type="qa"), (), [found])["squad-f1"].value == f1


TASKS: list[tuple[Task, set[str], list[Said]]] = [
    (
        ClassificationTask(type="classification"),
        {"accuracy", "macro-f1", "micro-f1", "mcc"},
        [Said("1", ("a",), ("a",)), Said("2", (), ("b",))],
    ),
    (
        ClassificationTask(type="classification", multi_label=True),
        {"accuracy", "macro-f1", "micro-f1"},
        [Said("1", ("a", "b"), ("a",)), Said("2", (), ())],
    ),
    (
        NerTask(type="ner"),
        {"entity-f1", "entities-in-text"},
        [Said("1", ("B-X", "O"), ("B-X", "O"), lost=1)],
    ),
    (
        WrittenTask(type="translation"),
        {"bleu", "chrf", "exact-match"},
        [Said("1", ("ein Haus am See",), ("ein Haus am See",))],
    ),
    (
        WrittenTask(type="summarization"),
        {"rouge-1", "rouge-2", "rouge-l"},
        [Said("1", ("a house",), ("a house",))],
    ),
    (WrittenTask(type="chat"), set(), [Said("1", ("a",), ("a",))]),
]


@pytest.mark.parametrize(("task", "names", "rows"), TASKS)
def test_each_task_has_its_scores(task: Task, names: set[str], rows: list[Said]) -> None:
    asked = ("exact-match",) if "exact-match" in names else ()
    assert set(scores_of(task, asked, rows)) == names
    assert scores_of(task, asked, []) == {}


def test_a_difference_is_of_the_same_rows_or_none() -> None:
    task = ClassificationTask(type="classification")
    before = [Said(str(row), ("a",), ("ab"[row % 2],)) for row in range(20)]
    after = [Said(one.row_id, one.right, one.right) for one in before]
    found = differences_of(task, (), before, after)
    assert found["accuracy"].value == 0.5
    assert 0 < found["accuracy"].low < 0.5 < found["accuracy"].high < 1
    assert differences_of(task, (), before[1:], after) == {}
    assert differences_of(task, (), [], []) == {}
