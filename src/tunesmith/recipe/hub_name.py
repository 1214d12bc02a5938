"""The name of a data set on the Hugging Face hub, and how it differs from a path.

owner/name                 owner/name:test           another split
owner/name:main/train      owner/name@v1.0           a revision: a branch, a tag or a commit
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_NAME = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[\w./-]+))?(?::(?P<split>[\w./*?-]+))?(?:@(?P<later_revision>[\w./-]+))?"
)
_FILE_SUFFIX = re.compile(r"\.[A-Za-z]\w*")


@dataclass(frozen=True, slots=True)
class HubName:
    """The parts of a data set's name."""

    repo: str
    split: str = "train"
    revision: str | None = None

    def __str__(self) -> str:
        """The name in one piece."""
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}:{self.split}{at}"


def parse_hub_name(text: str) -> HubName | None:
    """Return the parts of a hub name, or None where the text rather is a path."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    suffix = PurePosixPath(match["repo"]).suffix
    if _FILE_SUFFIX.fullmatch(suffix):  # data/train.jsn is a path with a slip of the pen
        return None
    revision = match["revision"] or match["later_revision"]
    return HubName(match["repo"], match["split"] or "train", revision)
