"""How this command is called here, so that the commands we suggest can be pasted."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def suggest(*words: str | Path) -> str:
    """A `tunesmith` command line, with paths as they are seen from here."""
    shown = [shown_path(word) if isinstance(word, Path) else word for word in words]
    return " ".join((program(), *shown))


def program() -> str:
    """`tunesmith`, or its path where the shell would not find that."""
    called = Path(sys.argv[0])
    if called.name != "tunesmith" or shutil.which("tunesmith") or not called.exists():
        return "tunesmith"
    return shown_path(called.absolute())


def shown_path(path: Path) -> str:
    """The path from here where that is shorter, quoted where a shell needs it."""
    here = Path.cwd()
    inside = path.is_relative_to(here) and path != here
    return shlex.quote(str(path.relative_to(here) if inside else path))
