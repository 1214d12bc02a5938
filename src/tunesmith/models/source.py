"""Tells what a model's name means, without torch and without a network.

smollm2-135m-instruct     a name of the catalogue
./my-model  ~/m  /m  m    a folder (a bare word only where that folder exists)
./model.gguf              a GGUF file
owner/name                a hub id, where no such folder exists
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tunesmith.core.errors import Fault, ModelError
from tunesmith.core.placed import placed
from tunesmith.models.catalog import CATALOG, CatalogModel
from tunesmith.models.folder import check_model_folder

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PATH_START = re.compile(r"[~/\\]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\]")


@dataclass(frozen=True, kw_only=True)
class Located:
    """What a source turned out to be; only the fields of its kind are set."""

    kind: Literal["catalog", "folder", "gguf", "hub"]
    name: str
    catalog: CatalogModel | None = None
    path: Path | None = None
    revision: str | None = None


def locate(source: str, revision: str | None = None) -> Located:
    """What `source` names; a ModelError with the nearest name where it is nothing.

    A folder is checked for all that a model needs; a hub id is only recognised by its form.
    """
    text = source.strip()
    located = _locate(text)
    if revision is not None and located.kind != "hub":
        raise ModelError(
            Fault(
                found=f"a revision ({revision}) is given, but {text} is not a hub id",
                where="model.revision",
                fix="leave the revision out: only hub ids have revisions",
            )
        )
    return replace(located, revision=revision)


def _locate(text: str) -> Located:
    if model := CATALOG.get(text):
        return Located(kind="catalog", name=model.name, catalog=model)
    path = Path(placed(text)).expanduser()
    if text and path.exists():
        return _locate_path(path.absolute(), text)
    if not HUB_ID.fullmatch(text) or _looks_like_path(text):
        raise ModelError(_nothing_there(text, path), code="model_not_found")
    return Located(kind="hub", name=text)


def _looks_like_path(text: str) -> bool:
    return PATH_START.match(text) is not None or text.endswith(("/", ".gguf", ".safetensors"))


def _locate_path(path: Path, text: str) -> Located:
    if path.is_dir():
        check_model_folder(path)
        return Located(kind="folder", name=text, path=path)
    if path.suffix.lower() == ".gguf":
        return Located(kind="gguf", name=text, path=path)
    raise ModelError(
        Fault(
            found=f"{text} is a file, but neither a model folder nor a .gguf file",
            where="model.source",
            fix=f"name the folder that holds it: {path.parent}",
        ),
        code="model_not_found",
    )


def _nothing_there(text: str, path: Path) -> Fault:
    """A missing path is called missing; only a bare word is compared with the catalogue."""
    if not text:
        return Fault(found="no model is named", where="model.source", fix=_catalogue_hint())
    if _looks_like_path(text) or len(Path(text).parts) > 1:
        kind = "file" if path.suffix.lower() in (".gguf", ".safetensors") else "folder"
        near = nearest_path(path)
        return Fault(
            found=f"{kind} {text} does not exist (looked in {Path.cwd()})",
            where="model.source",
            fix=f"did you mean {near}?" if near else "correct the path to the model",
        )
    near_names = difflib.get_close_matches(text.lower(), CATALOG, n=1, cutoff=0.4)
    near = (near_names or [nearest_path(path)])[0]
    return Fault(
        found=f"there is no model named {text!r}, and no such folder in {Path.cwd()}",
        where="model.source",
        fix=(f"did you mean {near}? " if near else "") + _catalogue_hint(),
    )


def nearest_path(path: Path) -> str | None:
    """What exists beside the first part of `path` that does not, under the nearest name."""
    while not path.parent.exists():
        path = path.parent
    try:
        names = [
            child.name
            for child in path.parent.iterdir()
            if child.is_dir() or child.suffix == ".gguf"
        ]
    except OSError:
        return None
    matches = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return str(path.parent / matches[0]) if matches else None


def _catalogue_hint() -> str:
    return f"the catalogue has {', '.join(CATALOG)}; a hub id is owner/name; a folder is ./folder"
