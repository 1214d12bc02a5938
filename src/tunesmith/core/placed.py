"""Files of a recipe that another machine has sent here, and are under another folder than there.

A rank whose machine does not share a disk with the one that the recipe was written on finds the
recipe's own files below the folder in this variable, by the whole path that they have there. All
records keep the path of the recipe.
"""

from __future__ import annotations

import os
from pathlib import Path

INPUTS = "TUNESMITH_INPUTS"
WILDCARDS = "*?[{"


def placed(text: str) -> str:
    """Where a path of the recipe is on this machine; a name that is no such path stays."""
    root = os.environ.get(INPUTS)
    if not root or not text.startswith("/"):
        return text
    here = root + text
    return here if os.path.exists(known_beginning(here)) else text


def as_named(path: str | Path) -> str:
    """The recipe's own path of what `placed` has found."""
    root = os.environ.get(INPUTS)
    text = str(path)
    return text.removeprefix(root) if root and text.startswith(f"{root}/") else text


def known_beginning(pattern: str) -> str:
    """Return a path, or of a pattern the folder in which its matches are."""
    first = min((pattern.find(one) for one in WILDCARDS if one in pattern), default=-1)
    return pattern if first < 0 else os.path.dirname(pattern[:first])
