from __future__ import annotations

from itertools import pairwise

from tunesmith.recipe.task import ClassificationTask, NerTask
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.confused import MOST_PAIRS, confusion_of

TASK = ClassificationTask(type="classification")


def rows(*pairs: tuple[str, str | None]) -> list[Said]:
    return [
        Said(f"r:{number}", () if said is None else (said,), (right,))
        for number, (right, said) in enumerate(pairs)
    ]


def test_few_classes_are_counted_one_by_one() -> None:
    found = confusion_of(TASK, rows(("a", "a"), ("a", "b"), ("b", "b"), ("b", None), ("b", None)))
    assert found == {
        "classes": 2,
        "labels": ["a", "b"],
        "counts": [[1, 1, 0], [0, 1, 2]],
        "pairs": [
            {"right": "b", "said": None, "rows": 2, "of": 3},
            {"right": "a", "said": "b", "rows": 1, "of": 2},
        ],
    }


def test_of_many_classes_the_commonest_mistakes_are_told() -> None:
    names = [f"c{number:02}" for number in range(30)]
    right = [(name, name) for name in names]
    wrong = list(pairwise(names))
    found = confusion_of(TASK, rows(*right, *wrong, ("c07", "c09"), ("c07", "c09")))
    assert found is not None
    assert found["classes"] == 30
    assert "counts" not in found
    assert len(found["pairs"]) == MOST_PAIRS
    assert found["pairs"][0] == {"right": "c07", "said": "c09", "rows": 2, "of": 4}


def test_rows_that_have_not_one_class_are_confused_with_none() -> None:
    several = ClassificationTask(type="classification", multi_label=True)
    assert confusion_of(several, rows(("a", "b"))) is None
    assert confusion_of(NerTask(type="ner"), rows(("O", "O"))) is None
    assert confusion_of(TASK, []) is None
