"""The built-in sample data: a recipe's `sample:NAME` becomes the path of a file in this folder."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.errors import DataError, Fault
from tunesmith.recipe.data import SAMPLE_PREFIX

FILES = {
    "support-desk": "support_desk_train.jsonl",
    "support-desk-held-out": "support_desk_held_out.jsonl",
}


def sample_path(name: str) -> Path:
    """The file of a built-in sample; `sample:support-desk` and `support-desk` are the same."""
    file = FILES.get(name.removeprefix(SAMPLE_PREFIX))
    if file is None:
        known = ", ".join(SAMPLE_PREFIX + known for known in FILES)
        raise DataError(
            Fault(
                found=f"there is no built-in sample named {name!r}",
                where="data.train or data.validation of the recipe",
                fix=f"name one of {known}, or the path of a file of your own",
            )
        )
    return Path(__file__).parent / file
