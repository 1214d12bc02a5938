"""Which labels a head is to know: those of the training rows, or the recipe's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import assert_never

from tunesmith.core.errors import DataError, Fault
from tunesmith.data.example import END, NONE, START
from tunesmith.data.forms.labelled import NO_TAG
from tunesmith.data.pipeline import RunData
from tunesmith.data.prepared.examples import Examples
from tunesmith.models.headed import Head
from tunesmith.recipe.task import ClassificationTask, HeadedTask, NerTask, QaTask, Task

MAX_NAMES_IN_MESSAGE = 8
BEGINS, INSIDE = "B-", "I-"


def head_of(task: HeadedTask, data: RunData) -> Head:
    """Return the head that a task needs for its rows.

    Raises:
        DataError: rows have labels that the head would not know, or not one each, or there is one
            label only.
    """
    match task:
        case QaTask():
            # A window of a context need not hold the answer.
            has_none = NONE in data.train.labels_used() or bool(data.train.pieces.any())
            return Head("span", (START, END), abstains=has_none)
        case NerTask():
            types = task.labels or _sorted({_type_of(tag) for tag in data.train.labels_used()})
            tags = [mark + kind for kind in types for mark in (BEGINS, INSIDE)]
            head = Head("tags", (NO_TAG, *tags))
        case ClassificationTask():
            labels = task.labels or _sorted(data.train.labels_used())
            head = Head("classes", tuple(labels), several=task.multi_label)
        case _:
            assert_never(task)
    faults = list(_faults(head, data))
    if faults:
        raise DataError(faults)
    return head


def class_names(task: Task, data: RunData) -> tuple[str, ...]:
    """Return the classes that a written answer may be; none for other tasks."""
    if not isinstance(task, ClassificationTask):
        return ()
    return task.labels or tuple(_sorted(data.train_side.classes))


def _type_of(tag: str) -> str:
    return tag[len(BEGINS) :] if tag != NO_TAG else ""


def _sorted(labels: set[str]) -> list[str]:
    """Sort numbers by their value and texts by their letters."""
    named = [label for label in labels if label]
    return sorted(named, key=int) if all(map(_is_number, named)) else sorted(named)


def _is_number(label: str) -> bool:
    return label.isascii() and label.removeprefix("-").isdigit()


def _faults(head: Head, data: RunData) -> Iterator[Fault]:
    if len(head.labels) < 2:
        what = "class" if head.kind == "classes" else "entity"
        yield Fault(
            found=f"the training rows have {'one' if head.labels else 'no'} {what} only",
            where=data.part.train,
            fix="add rows of another one, or look at the columns with `tunesmith data stats`",
        )
    for rows in (data.train, data.validation):
        unknown = rows.labels_used() - {*head.labels, ""}
        if unknown:
            yield _unknown(sorted(unknown), rows, head, data)
    if head.kind == "classes" and not head.several:
        yield from _not_one_each([data.train, data.validation])


def _unknown(names: Sequence[str], rows: Examples, head: Head, data: RunData) -> Fault:
    name = names[0]
    first = next(one for one in rows if name in one.labels)
    shown = ", ".join(names[:MAX_NAMES_IN_MESSAGE])
    where = "validation" if rows is data.validation else "training"
    return Fault(
        found=f"{len(names)} labels of the {where} rows that the head does not know: {shown}",
        where=f"row {first.row_id} and others",
        fix="correct them, add them to task.labels and to the training rows, or take these rows "
        f"out; the head knows {len(head.labels)}",
    )


def _not_one_each(sides: Sequence[Examples]) -> Iterator[Fault]:
    counts = Counter[str]()
    first: dict[str, str] = {}
    for rows in sides:
        for one in rows.with_several_labels():
            what = "no class" if one.labels == ("",) else f"{len(one.labels)} classes"
            counts[what] += 1
            first.setdefault(what, one.row_id)
    for what, count in counts.items():
        yield Fault(
            found=f"{what} in {count:,} row{'s' if count > 1 else ''}",
            where=f"row {first[what]}",
            fix="set task.multi_label: true, or give each row one label",
        )
