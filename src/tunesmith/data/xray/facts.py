"""The numbers of an X-ray. Rows are rows of the file; a row may be several examples.

`tokens` and `lengths` are those of whole examples, before any length limit. What the limit takes
away is `lost_tokens`; so `supervised_tokens - lost_supervised_tokens` is what is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tunesmith.data.xray.labels import LabelBalance, LonelyLabels
from tunesmith.data.xray.lengths import Lengths
from tunesmith.data.xray.overlap import NearDuplicates, Overlap
from tunesmith.data.xray.serving import ServingCheck

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Something that is wrong with the data: an error stops a run, a warning does not."""

    severity: Severity
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class BosCounts:
    """How many rows begin with no begin token, with one, and with several."""

    none: int
    one: int
    several: int


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """Rows that are not used: why, how many, and the first of them."""

    reason: str
    rows: int
    first: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideXRay:
    """The numbers of one side. `duplicates` are exact, and were left out before the rest.

    Of the rows that are too long, `rows_cut` are used in part and `rows_left_out` not at all.
    `rows_unsupervised` have no token to train even when they are whole.
    """

    rows: int
    examples: int
    used_examples: int
    duplicates: int
    tokens: int
    supervised_tokens: int
    lengths: Lengths | None
    rows_too_long: int
    rows_cut: int
    rows_left_out: int
    lost_tokens: int
    lost_supervised_tokens: int
    rows_unsupervised: int
    rows_without_end_of_turn: int
    rows_with_control_text: int
    bos: BosCounts
    labels: LabelBalance | None
    near: NearDuplicates | None

    @property
    def trained_tokens(self) -> int:
        """How many tokens are trained after the length limit."""
        return self.supervised_tokens - self.lost_supervised_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class XRay:
    """What a run would train on and measure with. `adds_bos`: the model expects a begin token."""

    model: str
    task: str
    format: str
    max_length: int
    overflow: str
    on_bad_row: str
    adds_bos: bool
    sides: Mapping[str, SideXRay]
    overlaps: tuple[Overlap, ...]
    lonely_labels: tuple[LonelyLabels, ...]
    dropped: tuple[DroppedRows, ...]
    notes: tuple[str, ...]
    serving: ServingCheck | None
    verdicts: tuple[Verdict, ...] = ()

    @property
    def errors(self) -> tuple[Verdict, ...]:
        """The verdicts that stop a run."""
        return tuple(verdict for verdict in self.verdicts if verdict.severity == "error")

    def as_json(self) -> dict[str, Any]:
        """Return everything as values that JSON knows."""
        document = asdict(self)
        for name, side in self.sides.items():
            document["sides"][name]["trained_tokens"] = side.trained_tokens
        return document
