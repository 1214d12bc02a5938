"""Writes a model in transformers' layout."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def save_model(model: Any, folder: Path) -> None:
    """Write config and weights; what libraries print meanwhile goes to standard error.

    Where DeepSpeed is installed transformers loads it here, to see whether the model is one of its
    engines, and its log goes to what standard output is then, which may be a command's document.
    """
    with redirect_stdout(sys.stderr):
        model.save_pretrained(folder)
