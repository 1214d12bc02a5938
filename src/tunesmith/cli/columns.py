"""From `prompt=question completion=answer` to a map of columns."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from tunesmith.core.errors import Fault, UserError
from tunesmith.recipe.data import ColumnMap, plain_word


def parse_columns(pairs: Sequence[str]) -> ColumnMap | None:
    """The columns that were named; None where none was."""
    known = tuple(ColumnMap.model_fields)
    named: dict[str, str] = {}
    faults: list[Fault] = []
    for pair in pairs:
        ours, equals, theirs = (text.strip() for text in pair.partition("="))
        ours = plain_word(ours)
        if not equals or not ours or not theirs:
            found, fix = f"no name=name: {pair!r}", "write --columns prompt=question"
        elif ours not in known:
            near = difflib.get_close_matches(ours, known, n=1)
            found = f"unknown column {ours}"
            fix = f"did you mean {near[0]}?" if near else f"the columns are {', '.join(known)}"
        else:
            named[ours] = theirs
            continue
        faults.append(Fault(found=found, where=f"--columns {pair}", fix=fix))
    if faults:
        raise UserError(faults, code="invalid_command")
    return ColumnMap(**named) if named else None
