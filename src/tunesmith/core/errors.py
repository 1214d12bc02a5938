"""The errors of Tunesmith, and the faults that they carry.

    TunesmithError
      UserError (also ValueError)      exit code 2: a fault of recipe, data, model or machine
        RecipeError  DataError  ModelError  MachineError
      RunError (also RuntimeError)     exit code 3: a run that failed

Each holds one or more faults with three parts: what was found, where, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

MAX_FAULTS_IN_MESSAGE = 20


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong: `where` is a file and line, or a recipe path."""

    found: str
    where: str
    fix: str

    def __str__(self) -> str:
        return f"{self.found}\n  where: {self.where}\n  to do: {self.fix}"


class TunesmithError(Exception):
    """The root of the tree; `faults` is never empty, `code` is a stable machine-readable word.

    `total` counts all faults where only the first ones are kept.
    """

    exit_code = 3
    default_code = "error"

    def __init__(
        self, faults: Fault | Sequence[Fault], *, code: str = "", total: int | None = None
    ) -> None:
        self.faults: tuple[Fault, ...] = (faults,) if isinstance(faults, Fault) else tuple(faults)
        assert self.faults, "an error names at least one fault"
        self.code = code or self.default_code
        self.total = total or len(self.faults)
        super().__init__(self.message())

    def message(self) -> str:
        """All faults as text; past the cap they are counted instead of printed."""
        shown = [str(fault) for fault in self.faults[:MAX_FAULTS_IN_MESSAGE]]
        hidden = self.total - len(shown)
        if hidden:
            shown.append(f"... and {hidden:,} more of {self.total:,} faults")
        return "\n".join(shown)

    def at(self, old: str, new: str) -> Self:
        """Return the same error with other words for a place: where a file was to be in the end."""
        faults = [replace(fault, where=fault.where.replace(old, new)) for fault in self.faults]
        return type(self)(faults, code=self.code, total=self.total)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle through the faults, so that an error survives the way between processes."""
        return (_rebuild, (type(self), self.faults, self.code, self.total))


def _rebuild(
    kind: type[TunesmithError], faults: tuple[Fault, ...], code: str, total: int
) -> TunesmithError:
    return kind(faults, code=code, total=total)


class UserError(TunesmithError, ValueError):
    """A fault that the user can mend, found before training."""

    exit_code = 2
    default_code = "invalid_request"


class RecipeError(UserError):
    """The recipe asks for something that does not exist or cannot be."""

    default_code = "invalid_recipe"


class DataError(UserError):
    """The data file cannot be used as it is."""

    default_code = "invalid_data"


class ModelError(UserError):
    """The model cannot be found, fetched or used."""

    default_code = "model_unavailable"


class MachineError(UserError):
    """This machine lacks something that the run needs."""

    default_code = "machine"


class RunError(TunesmithError, RuntimeError):
    """A run that failed after it had started."""

    default_code = "run_failed"
