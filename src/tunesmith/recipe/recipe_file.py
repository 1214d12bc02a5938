"""From a recipe's path to its text; whatever is wrong with the file is said in a user's words."""

from __future__ import annotations

import difflib
from pathlib import Path

from tunesmith.core.errors import Fault, RecipeError

# Far above any recipe, and below what would keep the YAML reader busy for long.
MAX_BYTES = 1_000_000


def read_recipe_text(path: Path) -> str:
    """The text of the file at `path`, which must be UTF-8."""
    content = _read(path)
    if len(content) > MAX_BYTES:
        found = f"{len(content):,} bytes: too large for a recipe"
        fix = "name the recipe, a short YAML file; data files are named inside it"
        raise RecipeError(Fault(found=found, where=str(path), fix=fix))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"byte 0x{content[error.start]:02x}, which is not UTF-8"
        fault = Fault(found=found, where=f"{path}:{line}", fix="save the recipe as UTF-8")
        raise RecipeError(fault) from error


def _read(path: Path) -> bytes:
    if path.is_dir():
        fix = f"name the recipe's file, e.g. {path / 'recipe.yaml'}"
        raise RecipeError(Fault(found="a folder, not a recipe file", where=str(path), fix=fix))
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise RecipeError(_missing(path)) from error
    except OSError as error:
        found = f"the recipe cannot be read: {(error.strerror or '').lower()}"
        fix = "check the path and the file's permissions"
        raise RecipeError(Fault(found=found, where=str(path), fix=fix)) from error


def _missing(path: Path) -> Fault:
    where = f"{path} (looked in {Path.cwd()})"
    if not path.parent.is_dir():
        found = "no such recipe, and no such folder"
        return Fault(found=found, where=where, fix="check the path")
    names = [child.name for child in path.parent.iterdir() if child.suffix in (".yaml", ".yml")]
    near = difflib.get_close_matches(path.name, names, n=1) or sorted(names)[:1]
    fix = f"did you mean {path.parent / near[0]}?" if near else "check the path"
    return Fault(found="no such recipe", where=where, fix=fix)
