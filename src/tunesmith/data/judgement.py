"""What the first rows say of a file: its form, its columns, and whether it suits the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from tunesmith.data.fields import MISSING, lookup
from tunesmith.data.formats import FORMATS, Columns, Format, FormatName, TaskName, find_format
from tunesmith.data.forms.form import is_there
from tunesmith.data.rows import Row, RowFault
from tunesmith.recipe.data import DataPart

ROWS_TO_JUDGE_BY = 1000
_QUESTIONS = {"question", "query", "prompt", "instruction", "input", "user", "problem"}
_ANSWERS = {"answer", "best answer", "response", "reply", "output", "completion", "assistant"}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is known of a file before its rows are checked; picklable.

    `columns` are the file's names of all the form's columns, `given` those of the recipe.
    `unsuitable` makes the whole file useless, whatever its single rows hold.
    """

    file: str
    form: FormatName | None
    columns: Mapping[str, str]
    given: Mapping[str, str]
    task: TaskName
    unsuitable: RowFault | None


def judge(
    first_rows: Sequence[Row | RowFault], part: DataPart, task: TaskName | None, *, file: str
) -> Judgement:
    """Judge a file by its first rows; without a task, any that its form serves will do."""
    rows = [row for row in first_rows if isinstance(row, Row)]
    given: Columns = part.columns.model_dump(exclude_none=True) if part.columns else {}
    form = _most_common_form(rows, given, task) if part.format == "auto" else part.format
    columns = _columns_of(FORMATS[form], rows, given) if form else {}
    serves = FORMATS[form].tasks if form else ("chat",)
    unsuitable = _find_unsuitable(rows, form, columns, given, file)
    if unsuitable is None and rows and form and task and task not in serves:
        unsuitable = _wrong_task(RowFault(file=file), form, task)
    return Judgement(
        file=file,
        form=form,
        columns=columns,
        given=given,
        task=task or serves[0],
        unsuitable=unsuitable,
    )


def _most_common_form(
    rows: Sequence[Row], given: Columns, task: TaskName | None
) -> FormatName | None:
    found: Counter[FormatName | None] = Counter(
        find_format(row.values, given, task) for row in rows
    )
    return next((form for form, _ in found.most_common() if form is not None), None)


def _columns_of(form: Format, rows: Sequence[Row], given: Columns) -> Columns:
    """Return the name of each column in the first row that has it."""
    names: dict[str, str] = {}
    for row in rows:
        fit = form.fit(form, row.values, given) or {}
        for word, name in fit.items():
            if word not in names and is_there(row.values, name):
                names[word] = name
    return {**form.named(given), **names}


def _find_unsuitable(
    rows: Sequence[Row], form: FormatName | None, columns: Columns, given: Columns, file: str
) -> RowFault | None:
    if not rows:
        return None
    names = sorted({name for row in rows for name in row.values})
    place = RowFault(file=file)
    for word, name in given.items():
        if not _is_in_some(rows, name) and not _is_nested(rows, form, word, columns):
            return _no_column(place, name, names, f"data.columns.{word}")
    if form is None:
        return _no_known_form(place, rows, given)
    if not FORMATS[form].knows(given):
        return _unread_word(place, form, given)
    for word in FORMATS[form].needs:
        if not _is_in_some(rows, columns[word]):
            return _no_column(place, columns[word], names, "data.format")
    return None


def _is_in_some(rows: Sequence[Row], name: str) -> bool:
    return any(lookup(row.values, name) is not MISSING for row in rows)


def _is_nested(rows: Sequence[Row], form: FormatName | None, word: str, columns: Columns) -> bool:
    """Say whether a column is one that may be nested in another, which is there."""
    outer = (
        [column.within for column in FORMATS[form].columns if column.word == word] if form else []
    )
    return any(within and _is_in_some(rows, columns[within]) for within in outer)


def _wrong_task(place: RowFault, form: FormatName, task: TaskName) -> RowFault:
    (other, *_) = FORMATS[form].tasks
    forms = ", ".join(one.name for one in FORMATS.values() if task in one.tasks)
    return place.saying(
        found=f"rows of form {form}",
        expected=f"a form for task {task}: {forms}",
        fix=f"set task: {other}, or write the rows in one of those forms",
        reason=f'wrong format "{form}" for {task} objective',
    )


def _no_column(place: RowFault, name: str, names: list[str], key: str) -> RowFault:
    near = get_close_matches(name, names, n=1)
    return place.saying(
        found=f'the file has no column "{name}"',
        expected=f"one of its columns: {', '.join(names)}",
        fix=f'did you mean "{near[0]}"? Set {key}' if near else f"name an existing one in {key}",
        reason=f'no column "{name}"',
    )


def _unread_word(place: RowFault, form: FormatName, given: Columns) -> RowFault:
    known = FORMATS[form].words
    word = next(word for word in given if word not in known)
    return place.saying(
        found=f"form {form} reads no column {word}",
        expected=f"one of its columns: {', '.join(known)}",
        fix=f"take data.columns.{word} out, or set another data.format",
        reason="an unread column is named",
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
