"""Cases that the default test command leaves out, and continuous integration does not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def long(cases: Iterable[object]) -> list[Any]:
    """Return the cases of a parameter, marked."""
    return [pytest.param(case, marks=pytest.mark.long) for case in cases]
