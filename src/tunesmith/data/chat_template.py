"""Chat templates of our own, for models that have none, or none that suits the rows."""

from __future__ import annotations

from pathlib import Path

from tunesmith.recipe.model import TEMPLATES

_FOLDER = Path(__file__).with_name("templates")


def template_text(given: str) -> str:
    """Return the text of a built-in template by its name; any other text is one itself."""
    if given not in TEMPLATES:
        return given
    return (_FOLDER / f"{given}.jinja").read_text(encoding="utf-8")
