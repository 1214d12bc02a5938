"""What a form of row is made of, and whether a row has it.

A column has one word, which is also the recipe's (`data.columns.WORD`), and the names under which
files bring it. A form fits a row that has each column it needs; the names in the recipe come first,
and a file's column that the recipe names is not taken for anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.data.conversation import Message, Sample
from tunesmith.data.fields import Columns, FieldReader, TaskName
from tunesmith.recipe.data import FormatName as FormatName

Values = Mapping[str, Any]
Fit = Callable[["Format", Values, Columns], Columns | None]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a form: the first of `names` is the usual one; `also` is a second recipe word.

    `within` is the word of the column in which this one may be nested. `answer` where it holds what
    the model is to say, which a row that is only asked may lack.
    """

    word: str
    names: tuple[str, ...] = ()
    needed: bool = True
    also: str = ""
    within: str = ""
    answer: bool = False

    @property
    def name(self) -> str:
        """The usual name in a file."""
        return self.names[0] if self.names else self.word


def fit_columns(form: Format, values: Values, given: Columns) -> Columns | None:
    """Return the file's name of each of the form's columns, or None where the form does not fit."""
    if not form.knows(given):
        return None
    named: dict[str, str] = {}
    for column in form.columns:
        name = _find(column, values, given)
        if name is None and column.needed:
            return None
        named[column.word] = name or column.name
    return named


@dataclass(frozen=True, slots=True)
class Format:
    """A form of row: its columns, the tasks that it serves, and how a row of it is read."""

    name: FormatName
    columns: tuple[Column, ...]
    tasks: tuple[TaskName, ...]
    read: Callable[[FieldReader], Sample]
    fit: Fit = fit_columns
    usual: str = ""  # its columns in words, where they are no fixed set
    is_asked: bool = False  # its rows may lack their answers

    @property
    def needs(self) -> tuple[str, ...]:
        """The words of the columns that it must have."""
        return tuple(column.word for column in self.columns if column.needed)

    @property
    def shown(self) -> str:
        """The usual names of the columns that it must have."""
        return self.usual or " + ".join(column.name for column in self.columns if column.needed)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of all its columns, as the recipe may name them."""
        return tuple(column.word for column in self.columns)

    @property
    def may_lack(self) -> frozenset[str]:
        """The words, and second words, of the answers' columns where rows are only asked."""
        answers = [column for column in self.columns if column.answer and self.is_asked]
        return frozenset(word for column in answers for word in (column.word, column.also))

    def to_ask(self) -> Format:
        """Return the same form for rows that are only asked: no answer is needed."""
        columns = (
            replace(column, needed=False) if column.answer else column for column in self.columns
        )
        return replace(self, columns=tuple(columns), is_asked=True)

    def knows(self, given: Columns) -> bool:
        """Say whether every word that the recipe names is one of this form's."""
        known = {*self.words, *(column.also for column in self.columns)}
        return known.issuperset(given)

    def named(self, given: Columns) -> Columns:
        """Return the names to read by where the form is asked for, whatever the row has."""
        return {
            column.word: given.get(column.word) or given.get(column.also) or column.name
            for column in self.columns
        }


def found_columns(form: Format, values: Values, given: Columns) -> Columns:
    """Return the file's name of each of the columns that a row has, even if it lacks others."""
    found = {column.word: _find(column, values, given) for column in form.columns}
    return {word: name for word, name in found.items() if name is not None}


def is_there(values: Values, name: str) -> bool:
    """Say whether a row has a column; of a dotted name, whether it has the outermost one."""
    return name in values or ("." in name and name.partition(".")[0] in values)


def _find(column: Column, values: Values, given: Columns) -> str | None:
    own = given.get(column.word) or given.get(column.also)
    if column.within:
        return own
    if own:
        return own if is_there(values, own) else None
    free = [name for name in column.names or (column.word,) if name in values]
    taken = given.values()
    free = [name for name in free if name not in taken]
    # The usual name goes before the others; two of the others leave it open which is meant.
    return free[0] if free and (free[0] == column.name or len(free) == 1) else None


def read_system(reader: FieldReader) -> tuple[Message, ...]:
    """Return the system column as a message, or nothing where it is absent or empty."""
    system = reader.optional_text("system")
    return (Message("system", system),) if system else ()
