"""From what a recipe calls its data to the files that hold it.

sample:support-desk          a built-in sample
data/train.jsonl             a file; ~ is expanded
data/                        the data files of a folder
data/*.jsonl  data/**/*.csv  the files that a pattern matches
data/{old,new}.jsonl         several files
multi30k/train.{en,de}       files side by side: line n of each makes one row
owner/name:split@revision    a Hugging Face data set, where nothing of that name is on the disk
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from tunesmith.core.errors import DataError
from tunesmith.core.placed import as_named, placed
from tunesmith.data.data_file import DataFile as DataFile
from tunesmith.data.hub_dataset import find_on_hub
from tunesmith.data.readers.kind import find_kind
from tunesmith.data.readers.suffix import KIND_OF_SUFFIX, suffix_of
from tunesmith.data.row import RowFault
from tunesmith.data.samples import sample_path
from tunesmith.recipe.data import SAMPLE_PREFIX
from tunesmith.recipe.hub_name import parse_hub_name

_BRACES = re.compile(r"\{([^{}/,]+(?:,[^{}/,]+)+)\}")
_WILDCARDS = "*?["
_ABOUT_THE_DATA = ("readme", "license", "licence", "notice", "citation", "changelog")
_NAMED = 5

log = logging.getLogger(__name__)


def find_files(source: str) -> list[DataFile]:
    """Return the files that a recipe's text names; raises DataError with all that is wrong."""
    found = look_for(placed(source))
    faults = [one.to_fault() for one in found if isinstance(one, RowFault)]
    if faults:
        raise DataError(faults)
    files = (one for one in found if isinstance(one, DataFile))
    return [replace(file, shown=as_named(file.shown)) for file in files]


def look_for(source: str | Path) -> Sequence[DataFile | RowFault]:
    """Return the files, and the faults of what cannot be read, in their places.

    A `Path` is never taken for the name of a data set on the hub.
    """
    text = str(source)
    if text.startswith(SAMPLE_PREFIX):
        return [_to_file(sample_path(text.removeprefix(SAMPLE_PREFIX)))]
    path = Path(text).expanduser()
    if path.is_dir():
        return _look_in_folder(path)
    if path.exists():
        return [_to_file(path)]
    if braces := _BRACES.search(text):
        return _look_in_braces(text, braces)
    if any(char in text for char in _WILDCARDS):
        return _look_by_pattern(path)
    if isinstance(source, str) and not _near_names(path):
        name = None if suffix_of(path) in KIND_OF_SUFFIX else parse_hub_name(source)
        if name is not None:
            return find_on_hub(name)
    return [_missing(path)]


def _to_file(path: Path, shown: str = "") -> DataFile | RowFault:
    kind = find_kind(path, shown or str(path))
    return kind if isinstance(kind, RowFault) else DataFile(path, shown or str(path), kind)


def _look_in_folder(folder: Path) -> list[DataFile | RowFault]:
    """Find the data files right in a folder; others are named, never passed over in silence."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    about = [entry for entry in entries if entry.name.lower().startswith(_ABOUT_THE_DATA)]
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if entry not in about and entry not in folders]
    unknown = [entry for entry in files if suffix_of(entry) not in KIND_OF_SUFFIX]
    if unknown:
        return [_unknown_files(folder, files, unknown)]
    if not files:
        return [_empty_folder(folder, folders)]
    if left_out := [*about, *folders]:
        log.warning("%s: not read: %s", folder, _list([entry.name for entry in left_out]))
    return [_to_file(file) for file in files]


def _look_by_pattern(pattern: Path) -> list[DataFile | RowFault]:
    matches = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))
    files = [match for match in matches if match.is_file()]
    if files:
        return [_to_file(file) for file in files]
    folder = next(part for part in pattern.parents if not any(c in str(part) for c in _WILDCARDS))
    return [
        RowFault(
            file=str(pattern),
            found="no file matches the pattern",
            expected="at least one file",
            fix=f"check it (** goes into folders){_list_files(folder)}",
            reason="missing file",
        )
    ]


def _look_in_braces(text: str, braces: re.Match[str]) -> Sequence[DataFile | RowFault]:
    """Take each file alone where its suffix says that it holds rows, else all side by side."""
    words = [word.strip() for word in braces[1].split(",")]
    texts = [text[: braces.start()] + word + text[braces.end() :] for word in words]
    kinds = {KIND_OF_SUFFIX.get(suffix_of(Path(one))) for one in texts}
    if not kinds & {None, "text"}:
        return list(chain.from_iterable(look_for(Path(one)) for one in texts))
    paths = [Path(one).expanduser() for one in texts]
    missing = [_missing(path) for path in paths if not path.is_file()]
    if missing:
        return missing
    if len(set(words)) < len(words):
        return [_same_words(text)]
    return [DataFile(paths[0], text, "parallel", tuple(words), tuple(paths[1:]))]


def _unknown_files(folder: Path, files: list[Path], unknown: list[Path]) -> RowFault:
    known = sorted({entry.suffix for entry in files if entry not in unknown})
    pattern = f"{folder}/*{known[0]}" if known else f"{folder}/{unknown[0].name}"
    return RowFault(
        file=str(folder),
        found=f"the folder holds files of no known kind: {_list([one.name for one in unknown])}",
        expected=f"only files that end in {', '.join(KIND_OF_SUFFIX)}, packed or not",
        fix=f"name the files to read, such as {pattern}",
        reason="another kind of file",
    )


def _empty_folder(folder: Path, folders: list[Path]) -> RowFault:
    inner = f"{folder}/**/*.jsonl reads those below it" if folders else "put files into it"
    return RowFault(
        file=str(folder),
        found="the path is a directory that holds no data file",
        expected="a file of rows, or a folder of such files",
        fix=f"{inner}; it holds {_list([one.name for one in folders]) or 'nothing'}",
        reason="directory",
    )


def _same_words(text: str) -> RowFault:
    return RowFault(
        file=text,
        found="the braces hold one word twice",
        expected="a word for each file, which names its column",
        fix="write each word once, such as train.{en,de}",
        reason="missing file",
    )


def _missing(path: Path) -> RowFault:
    return RowFault(
        file=str(path),
        found="the file does not exist",
        expected="a file of rows",
        fix=_suggest(path),
        reason="missing file",
    )


def _suggest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either: check the path"
    if near := _near_names(path):
        return f"did you mean {folder / near[0]}?"
    return f"check the path{_list_files(folder)}"


def _near_names(path: Path) -> list[str]:
    if not path.parent.is_dir():
        return []
    return get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)


def _list_files(folder: Path) -> str:
    if not folder.is_dir():
        return f"; there is no folder {folder}"
    names = [entry.name for entry in folder.iterdir() if suffix_of(entry) in KIND_OF_SUFFIX]
    return f"; {folder} holds {_list(sorted(names)) or 'no data file'}"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
