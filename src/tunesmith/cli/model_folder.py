"""Gets a model's folder through a process of its own, since preparing weights needs torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tunesmith.cli.child import ask
from tunesmith.core.errors import ModelError

MODULE = "tunesmith.models.prepare"


def model_folder(source: str, *, command: Sequence[str] | None = None) -> Path:
    """The folder of a prepared model; what takes time is said on standard error."""
    argv = command or (sys.executable, "-m", MODULE, source)
    return Path(ask(argv, what=source, error=ModelError)["folder"])
