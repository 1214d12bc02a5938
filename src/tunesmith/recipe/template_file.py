"""A chat template that a recipe gives: a word, a file, or the text itself."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.errors import Fault, RecipeError
from tunesmith.recipe.model import TEMPLATES


def read_template(given: str, base: Path, *, where: str) -> str:
    """Return a template's word or text; a file's text takes the place of its name.

    Raises:
        RecipeError: the file cannot be read.
    """
    if given in TEMPLATES or "{" in given:
        return given
    file = base / Path(given).expanduser()
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        fault = Fault(
            found=f"cannot read {file}: {reason}",
            where=where,
            fix=f"name a file with a Jinja template, or one of: {', '.join(TEMPLATES)}",
        )
        raise RecipeError(fault) from error
