"""What a prediction is asked to do, as one JSON text between the command and its process.

Imports nothing heavy: the command makes it, and never loads torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from tunesmith.recipe.data import FormatWord
from tunesmith.recipe.evaluation import TOKENS_ANSWERED_AT_ONCE

Existing = Literal["refuse", "resume", "overwrite"]
OnBadRow = Literal["error", "report"]
DtypeWord = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The words of the command.

    `shown` is what the input is called where that is not its path. `output_descriptor` is an open
    file to write to in place of `output`. `columns` are the input's names of columns, by our words.
    """

    what: str
    input: str
    output: str
    adapters: tuple[tuple[str, float], ...] = ()
    shown: str | None = None
    output_descriptor: int | None = None
    existing: Existing = "refuse"
    format: FormatWord | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    system: str | None = None
    max_new_tokens: int | None = None
    temperature: float = 0.0
    seed: int = 0
    batch_tokens: int = TOKENS_ANSWERED_AT_ONCE
    dtype: DtypeWord = "auto"
    on_bad_row: OnBadRow = "error"

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> PredictRequest:
        """Return the request that a text is."""
        values = json.loads(text)
        adapters = tuple((folder, weight) for folder, weight in values.pop("adapters"))
        return PredictRequest(**values, adapters=adapters)
