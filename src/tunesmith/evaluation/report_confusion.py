"""Which classes were taken for which, as a table of text that both forms of the report write."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.evaluation.report_facts import Confusion, Facts

NO_CLASS = "no class"


@dataclass(frozen=True)
class ConfusionTable:
    """What was taken for what; `is_matrix` where each class has a row and a column."""

    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_matrix: bool


def confusion_table(facts: Facts) -> ConfusionTable | None:
    """Every class by every class where they are few, else the commonest mistakes."""
    found = facts.confusion
    if found is None:
        return None
    title = f"Classes taken for others, {found.when} training"
    if found.counts:
        return _matrix(title, found)
    rows = tuple(
        (one.right, NO_CLASS if one.said is None else one.said, f"{one.rows:,}", f"{one.of:,}")
        for one in found.mistakes
    )
    note = f"The commonest mistakes among {found.classes:,} classes."
    if not rows:
        note = f"None of the {found.classes:,} classes was taken for another."
    head = ("is", "was taken for", "rows", "of the class")
    return ConfusionTable(title, note, head, rows, is_matrix=False)


def _matrix(title: str, found: Confusion) -> ConfusionTable:
    """A row says what is right, a column what was answered; the last one only where it is used."""
    has_none = any(row[-1] for row in found.counts)
    numbers = [str(place) for place in range(1, len(found.labels) + 1)]
    head = ("", *numbers, *([NO_CLASS] if has_none else []))
    rows = tuple(
        (f"{number} {label}", *(f"{count:,}" if count else "" for count in row[: len(head) - 1]))
        for number, label, row in zip(numbers, found.labels, found.counts, strict=True)
    )
    note = "A row is what is right, a column what was answered, by the numbers of the classes."
    return ConfusionTable(title, note, head, rows, is_matrix=True)
