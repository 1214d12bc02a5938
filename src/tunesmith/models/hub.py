"""Gets a model from the hub: the local copy first, the network only where that is not whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tunesmith.core.errors import Fault, ModelError
from tunesmith.models.folder import check_model_folder, is_model_folder
from tunesmith.models.quiet import quiet

# Top-level files only: no code, no pickles, no other framework's or precision's copies.
WANTED = [
    "*.json",
    "*.jinja",
    "model*.safetensors",
    "tokenizer.model",
    "spiece.model",
    "merges.txt",
    "vocab.txt",
    "LICENSE*",
]
UNWANTED = ["*/*"]
ANSWER_S = 10
OFFLINE_WORDS = ("1", "true", "yes", "on")


def fetch_snapshot(repo: str, revision: str | None, *, on_progress: Callable[[str], None]) -> Path:
    """The folder of a hub model's snapshot, whole; its last part is the commit.

    Without a revision, a whole local copy is used as it is and not looked up again.
    """
    folder = _local_snapshot(repo, revision)
    if folder is not None and is_model_folder(folder):
        return folder
    if is_offline():
        raise ModelError(_offline(repo, "HF_HUB_OFFLINE is set"), code="model_not_fetched")
    commit = _look_up(repo, revision)
    on_progress(f"fetching {repo} at {commit[:12]} from the hub")
    folder = _download(repo, commit)
    check_model_folder(folder)
    return folder


def is_offline() -> bool:
    """Whether the user told the hub's library to stay off the network."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").lower() in OFFLINE_WORDS for name in names)


def _local_snapshot(repo: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        with quiet():
            found = snapshot_download(
                repo,
                revision=revision,
                local_files_only=True,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
            )
    except (LocalEntryNotFoundError, IncompleteSnapshotError):
        return None
    return Path(found)


def _look_up(repo: str, revision: str | None) -> str:
    """The commit of a revision: one question with a short limit, before any retrying download."""
    from huggingface_hub import HfApi, errors

    try:
        with quiet():
            commit = HfApi().model_info(repo, revision=revision, timeout=ANSWER_S).sha
    except errors.GatedRepoError as error:
        fix = f"accept its terms on the hub's page of {repo}, then run `hf auth login`"
        raise _refused(repo, "is only given to users who accepted its terms", fix) from error
    except errors.RepositoryNotFoundError as error:
        fix = "check the spelling; a private model needs `hf auth login`; a folder is ./folder"
        found = f"does not exist on the hub, and {repo} is no folder in {Path.cwd()}"
        raise _refused(repo, found, fix) from error
    except errors.RevisionNotFoundError as error:
        fix = "name a branch, tag or commit that exists, or leave the revision out"
        raise _refused(repo, f"has no revision {revision}", fix) from error
    except (_connection_error(), errors.HFValidationError, OSError) as error:
        raise ModelError(_offline(repo, str(error)), code="model_not_fetched") from error
    return commit or revision or "main"


def _download(repo: str, commit: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with quiet():
            folder = snapshot_download(
                repo,
                revision=commit,
                allow_patterns=WANTED,
                ignore_patterns=UNWANTED,
                etag_timeout=ANSWER_S,
            )
    except (_connection_error(), OSError) as error:
        raise ModelError(_offline(repo, str(error)), code="model_not_fetched") from error
    return Path(folder)


def _connection_error() -> type[Exception]:
    """The error of whichever HTTP client the hub's library is built on."""
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    return HTTPError


def _refused(repo: str, found: str, fix: str) -> ModelError:
    fault = Fault(found=f"the hub model {repo} {found}", where="model.source", fix=fix)
    return ModelError(fault, code="model_not_found")


def _offline(repo: str, reason: str) -> Fault:
    first_line = (reason.strip().splitlines() or ["no reason given"])[0]
    return Fault(
        found=f"the hub model {repo} is not whole on this machine, and the hub did not "
        f"give it ({first_line})",
        where="model.source",
        fix=f"connect to the hub and try again; or fetch it elsewhere with `hf download {repo}` "
        "and name the folder; or use the catalogue's smollm2-135m-instruct, which comes from "
        "the package index",
    )
