"""Faults of rows in the words of a command whose options stand for a recipe's keys.

    set data.columns.prompt        give --columns prompt=NAME
    name it in data.format         name it in --format

Whatever else a recipe says of rows is as it was in training, and no option changes it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tunesmith.core.errors import Fault

_WORDS = (
    (
        r"data\.columns, such as \{prompt: (.+?), completion: (.+?)\}",
        r"--columns prompt=\1 (and --columns completion=\2)",
    ),
    (r"data\.columns\.(\w+)", r"--columns \1=NAME"),
    (r"data\.(columns|format|system)\b(?!_)", r"--\1"),
    (r"set task: [\w-]+, or (\w)", r"\1"),
    (r"set data\.on_bad_row: drop", "give --on-bad-row report"),
    (r"data\.max_length( is| =)", r"what the model reads at most\1"),
    (r"set a longer data\.max_length, or ", ""),
    (r"\bset --", "give --"),
    (r"\bSet --", "Give --"),
)
_KEY = re.compile(r"\bdata\.\w+")
AS_TRAINED = "predict reads rows as training did, so change the file"


def in_options(fault: Fault) -> Fault:
    """Return a fault with the command's options in place of the recipe's keys."""
    found, fix = (_reworded(text) for text in (fault.found, fault.fix))
    if _KEY.search(fix):
        fix = f"{AS_TRAINED} ({fix})"
    return replace(fault, found=found, fix=fix)


def _reworded(text: str) -> str:
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text
