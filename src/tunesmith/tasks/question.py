"""A held-out row as it is put to the model."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.data.conversation import Labelled


@dataclass(frozen=True)
class Question:
    """`tokens` is what the model reads; `prompt` is the same for people; `reference` the answer."""

    row_id: str
    prompt: str
    tokens: tuple[int, ...]
    reference: str
    labelled: Labelled | None = None
