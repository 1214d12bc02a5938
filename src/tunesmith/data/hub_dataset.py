"""A data set on the Hugging Face hub: which of its files make a split, and their local copies.

owner/name                 the files of the split `train`, or all where none is named for a split
owner/name:test            another split
owner/name:main/train      a split below one folder
owner/name:data/a*.jsonl   files by a pattern
owner/name@v1.0            a revision: a branch, a tag or a commit
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from tunesmith.data.data_file import DataFile
from tunesmith.data.readers.kind import find_kind
from tunesmith.data.readers.suffix import KIND_OF_SUFFIX, suffix_of
from tunesmith.data.row import RowFault
from tunesmith.recipe.hub_name import HubName

_ANSWER_S = 10
_SPLITS = ("train", "validation", "test", "valid", "dev", "val", "eval", "training")
_KINDS = ("parquet", "jsonl", "json", "csv")
_ABOUT_THE_DATA = ("dataset_info", "dataset_dict", "dataset_infos", "state", "metadata")


def find_on_hub(name: HubName) -> Sequence[DataFile | RowFault]:
    """Fetch the files of a split into the hub's own cache and return them."""
    listed = _list_repo(name)
    if isinstance(listed, RowFault):
        return [listed]
    commit, files = listed
    wanted = choose_files(name, files)
    if isinstance(wanted, RowFault):
        return [wanted]
    return [_fetch(name, commit, file) for file in wanted]


def choose_files(name: HubName, files: Sequence[str]) -> list[str] | RowFault:
    """Return the data files of the split, or why it is not clear which they are."""
    data = sorted(file for file in files if _is_data(file))
    if not data:
        return _fault(
            name, "no data file that can be read", f"the data set has {_list(list(files))}",
            "download it with `hf download --repo-type dataset`, and write JSONL or Parquet",
        )  # fmt: skip
    wanted = _of_split(data, name.split)
    if not wanted and name.split == "train" and not any(_split_of(file) for file in data):
        wanted = data
    if not wanted:
        splits = sorted({split for file in data if (split := _split_of(file))})
        return _fault(
            name, f'no file of the split "{name.split}"',
            f"its splits are {', '.join(splits) or 'not named'}; its files {_list(data)}",
            f"write {name.repo}:{splits[0] if splits else data[0]}",
        )  # fmt: skip
    groups = {(_config_of(file), suffix_of(Path(file))) for file in wanted}
    if len(groups) > 1 and not _is_pattern(name.split):
        return _fault(
            name, "several sets of files for one split", f"they are {_list(wanted)}",
            f"name one, such as {name.repo}:{_pattern_of(wanted[0])}",
        )  # fmt: skip
    return wanted


def _is_data(file: str) -> bool:
    path = PurePosixPath(file)
    if any(part.startswith(".") for part in path.parts):
        return False
    is_about = path.name.split(".")[0] in _ABOUT_THE_DATA
    return KIND_OF_SUFFIX.get(suffix_of(Path(file))) in _KINDS and not is_about


def _is_pattern(split: str) -> bool:
    return any(char in split for char in "*?.")


def _of_split(files: list[str], split: str) -> list[str]:
    if _is_pattern(split):
        return [file for file in files if fnmatchcase(file, split)]
    folder, _, word = split.rpartition("/")
    inside = [file for file in files if not folder or file.startswith(f"{folder}/")]
    return [file for file in inside if word in _words(file.removeprefix(f"{folder}/"))]


def _split_of(file: str) -> str | None:
    return next((word for word in _words(file) if word in _SPLITS), None)


def _words(file: str) -> list[str]:
    """Return a file's name and folders cut at their marks; a split's own name may hold some."""
    parts = PurePosixPath(file).parts
    stem = parts[-1].split(".")[0]
    whole = re.sub(r"-\d+-of-\d+$", "", stem)
    return [*parts[:-1], stem, whole, *re.split(r"[-_]", stem)]


def _config_of(file: str) -> str:
    folders = PurePosixPath(file).parts[:-1]
    return "/".join(folder for folder in folders if folder not in _SPLITS)


def _pattern_of(file: str) -> str:
    path = PurePosixPath(file)
    return str(path.with_name(re.sub(r"\d+-of-\d+", "*", path.name)))


def _list_repo(name: HubName) -> tuple[str, list[str]] | RowFault:
    """Ask the hub once, with a short limit, for the commit and the names of its files."""
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi().dataset_info(name.repo, revision=name.revision, timeout=_ANSWER_S)
    except errors.GatedRepoError:
        fix = f"accept its terms on the hub's page of {name.repo}, then run `hf auth login`"
        return _fault(name, "no access", "its terms have to be accepted first", fix)
    except errors.RevisionNotFoundError:
        fix = "name a branch, a tag or a commit that exists, or leave @... out"
        return _fault(name, "no such revision", f"the hub has no {name.revision}", fix)
    except errors.RepositoryNotFoundError:
        fix = "check the spelling; a private data set needs `hf auth login`"
        return _fault(name, "nothing", "it is neither a path nor a data set on the hub", fix)
    except (_connection_error(), errors.HFValidationError, OSError) as error:
        return _no_connection(name, error)
    files = [sibling.rfilename for sibling in info.siblings or ()]
    return info.sha or name.revision or "main", files


def _fetch(name: HubName, commit: str, file: str) -> DataFile | RowFault:
    from huggingface_hub import hf_hub_download

    try:
        path = Path(
            hf_hub_download(
                name.repo, file, repo_type="dataset", revision=commit, etag_timeout=_ANSWER_S
            )
        )
    except (_connection_error(), OSError) as error:
        return _no_connection(name, error)
    shown = f"{name.repo}/{file}"
    kind = find_kind(path, shown)
    return kind if isinstance(kind, RowFault) else DataFile(path, shown, kind)


def _connection_error() -> type[Exception]:
    """The error of whichever HTTP client the hub's library is built on."""
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    return HTTPError


def _fault(name: HubName, found: str, why: str, fix: str) -> RowFault:
    return RowFault(
        file=str(name),
        found=f"{found} found for {name.repo}: {why}",
        fix=fix,
        reason="data set on the hub",
    )


def _no_connection(name: HubName, error: Exception) -> RowFault:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return RowFault(
        file=str(name),
        found=f"there is no file or folder {name.repo} in {Path.cwd()}, and the hub did not "
        f"give a data set of that name ({reason})",
        fix="correct the path; or connect to the hub and try again; or fetch it elsewhere with "
        f"`hf download --repo-type dataset {name.repo}` and name the folder",
        reason="data set on the hub",
    )


def _list(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
