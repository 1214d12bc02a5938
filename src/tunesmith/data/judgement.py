"""What the first rows say of a file: its form, its columns, and whether it suits the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from tunesmith.data.fields import MISSING, from_literal, lookup
from tunesmith.data.formats import (
    FORMATS,
    Columns,
    Format,
    FormatName,
    TaskName,
    find_asked_formats,
    find_format,
    form_of,
)
from tunesmith.data.forms.form import found_columns, is_there
from tunesmith.data.rows import Row, RowFault
from tunesmith.recipe.data import DataPart
from tunesmith.recipe.task import recipe_word

ROWS_TO_JUDGE_BY = 1000
_QUESTIONS = {"question", "query", "prompt", "instruction", "input", "user", "problem"}
_ANSWERS = {"answer", "best answer", "response", "reply", "output", "completion", "assistant"}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is known of a file before its rows are checked; picklable.

    `columns` are the file's names of all the form's columns, `given` those of the recipe.
    `unsuitable` makes the whole file useless, whatever its single rows hold. `asked` where the rows
    are only asked; `several_labels` where a text has several classes.
    """

    file: str
    form: FormatName | None
    columns: Mapping[str, str]
    given: Mapping[str, str]
    task: TaskName
    unsuitable: RowFault | None
    asked: bool = False
    several_labels: bool = False


def judge(
    first_rows: Sequence[Row | RowFault],
    part: DataPart,
    task: TaskName | None,
    *,
    file: str,
    asked: bool = False,
) -> Judgement:
    """Judge a file by its first rows; without a task, any that its form serves will do.

    Rows that are only `asked` need no answers.
    """
    rows = [row for row in first_rows if isinstance(row, Row)]
    given: Columns = part.columns.model_dump(exclude_none=True) if part.columns else {}
    forms = _forms(rows, part, given, task, asked=asked)
    form = form_of(forms[0], asked=asked) if len(forms) == 1 else None
    columns = _columns_of(form, rows, given) if form else {}
    serves = form.tasks if form else ("chat",)
    unsuitable = _find_unsuitable(rows, form, columns, given, file)
    if unsuitable is None and rows and part.group and not asked:
        unsuitable = _without_group(rows, part.group, file)
    if len(forms) > 1:
        unsuitable = _several_forms(RowFault(file=file), forms)
    if unsuitable is None and rows and form and task and task not in serves:
        unsuitable = _wrong_task(RowFault(file=file), form.name, task)
    return Judgement(
        file=file,
        form=form.name if form else None,
        columns=columns,
        given=given,
        task=task or serves[0],
        unsuitable=unsuitable,
        asked=asked,
        several_labels=form is not None and _has_lists(form, rows, columns),
    )


def judge_as(trained: Judgement, first_rows: Sequence[Row | RowFault], *, file: str) -> Judgement:
    """Judge a file of rows that are asked as the rows of `trained` were learned."""
    assert trained.form is not None, "what was trained had a form"
    form = form_of(trained.form, asked=True)
    rows = [row for row in first_rows if isinstance(row, Row)]
    unsuitable = _find_unsuitable(rows, form, trained.columns, {}, file)
    return replace(trained, file=file, given={}, unsuitable=unsuitable, asked=True)


def _forms(
    rows: Sequence[Row], part: DataPart, given: Columns, task: TaskName | None, *, asked: bool
) -> tuple[FormatName, ...]:
    """Return the form asked for, or that of most rows; several where their columns fit them all."""
    if part.format != "auto":
        return (part.format,)
    found: Counter[tuple[FormatName, ...]] = Counter()
    for row in rows:
        form = find_format(row.values, given, task)
        forms = find_asked_formats(row.values, given, task) if asked else (form,) if form else ()
        found[forms] += 1
    return next((forms for forms, _ in found.most_common() if forms), ())


def _has_lists(form: Format, rows: Sequence[Row], columns: Columns) -> bool:
    """Say whether the classes of a text are a list."""
    if form.name != "classification":
        return False
    values = [lookup(row.values, columns["label"]) for row in rows]
    read = [from_literal(value) if isinstance(value, str) else value for value in values]
    return any(isinstance(value, list) for value in read)


def _columns_of(form: Format, rows: Sequence[Row], given: Columns) -> Columns:
    """Return the name of each column in the first row that has it.

    Where no row has all that the form needs, each column is found by itself.
    """
    fitting = [form.fit(form, row.values, given) or {} for row in rows]
    if not any(fitting):
        fitting = [found_columns(form, row.values, given) for row in rows]
    names: dict[str, str] = {}
    for row, fit in zip(rows, fitting, strict=True):
        for word, name in fit.items():
            if word not in names and is_there(row.values, name):
                names[word] = name
    return {**form.named(given), **names}


def _find_unsuitable(
    rows: Sequence[Row], form: Format | None, columns: Columns, given: Columns, file: str
) -> RowFault | None:
    if not rows:
        return None
    names = sorted({name for row in rows for name in row.values})
    place = RowFault(file=file)
    may_lack = form.may_lack if form else frozenset[str]()
    for word, name in given.items():
        is_there = _is_in_some(rows, name) or _is_nested(rows, form, word, columns)
        if not is_there and word not in may_lack:
            return _no_column(place, name, names, f"data.columns.{word}")
    if form is None:
        return _no_known_form(place, rows, given)
    if not form.knows(given):
        return _unread_word(place, form, given)
    for word in form.needs:
        if not _is_in_some(rows, columns[word]):
            return _lacks(place, form, word, columns[word], names)
    return None


def _without_group(rows: Sequence[Row], name: str, file: str) -> RowFault | None:
    if _is_in_some(rows, name):
        return None
    names = sorted({name for row in rows for name in row.values})
    return _no_column(RowFault(file=file), name, names, "data.group")


def _lacks(place: RowFault, form: Format, word: str, name: str, names: list[str]) -> RowFault:
    """Say that a column of the form is not there: it has another name, or the form is another."""
    fault = _no_column(place, name, names, f"data.columns.{word}")
    other = f"or, if the rows are not of form {form.name}, set data.format"
    return replace(fault, fix=f"{fault.fix}; {other}")


def _is_in_some(rows: Sequence[Row], name: str) -> bool:
    return any(lookup(row.values, name) is not MISSING for row in rows)


def _is_nested(rows: Sequence[Row], form: Format | None, word: str, columns: Columns) -> bool:
    """Say whether a column is one that may be nested in another, which is there."""
    outer = [column.within for column in form.columns if column.word == word] if form else []
    return any(within and _is_in_some(rows, columns[within]) for within in outer)


def _wrong_task(place: RowFault, form: FormatName, task: TaskName) -> RowFault:
    (other, *_) = FORMATS[form].tasks
    forms = ", ".join(one.name for one in FORMATS.values() if task in one.tasks)
    return place.saying(
        found=f"rows of form {form}",
        expected=f"a form for task {recipe_word(task)}: {forms}",
        fix=f"set task: {other}, or write the rows in one of those forms",
        reason=f'wrong format "{form}" for {recipe_word(task)} objective',
    )


def _no_column(place: RowFault, name: str, names: list[str], key: str) -> RowFault:
    near = get_close_matches(name, names, n=1)
    return place.saying(
        found=f'the file has no column "{name}"',
        expected=f"one of its columns: {', '.join(names)}",
        fix=f'did you mean "{near[0]}"? Set {key}' if near else f"name an existing one in {key}",
        reason=f'no column "{name}"',
    )


def _unread_word(place: RowFault, form: Format, given: Columns) -> RowFault:
    known = form.words
    word = next(word for word in given if word not in known)
    return place.saying(
        found=f"form {form.name} reads no column {word}",
        expected=f"one of its columns: {', '.join(known)}",
        fix=f"take data.columns.{word} out, or set another data.format",
        reason="an unread column is named",
    )


def _several_forms(place: RowFault, forms: Sequence[FormatName]) -> RowFault:
    return place.saying(
        found=f"without answers the rows may be of form {', '.join(forms)}",
        expected="one of them",
        fix="name it in data.format",
        reason="several forms",
    )


def _no_known_form(place: RowFault, rows: Sequence[Row], given: Columns) -> RowFault:
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    asked, answered = _guess_pair(rows[0])
    fix = f"set data.columns, such as {{prompt: {asked}, completion: {answered}}}"
    found = f"no known form has the columns {', '.join(names) or '(none)'}"
    if given:
        found += f", {', '.join(given)} among them by data.columns"
        fix = "name all the columns that a form needs in data.columns"
    needs = "; ".join(form.shown for form in FORMATS.values())
    return place.saying(
        found=found, expected=f"columns of one form: {needs}", fix=fix, reason="no known form"
    )


def _guess_pair(row: Row) -> tuple[str, str]:
    """Return the columns that are likely to be a question and its answer."""
    texts = [name for name, value in row.values.items() if isinstance(value, str)]
    if len(texts) == 2:
        return texts[0], texts[1]
    asked = [name for name in texts if name.lower() in _QUESTIONS]
    answered = [name for name in texts if name.lower() in _ANSWERS]
    return next(iter(asked), "<column>"), next(iter(answered), "<column>")
