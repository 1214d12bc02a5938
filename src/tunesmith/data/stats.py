"""What rows come to once rendered: lengths, what is trained, and what a length limit would cost.

Nothing is dropped, cut or raised here: the numbers say what would happen in a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.data.conversation import Sample
from tunesmith.data.formats import TaskName
from tunesmith.data.render import fit, render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import TextEncoder, Tokenizer
from tunesmith.recipe.data import DataPart

NUM_BINS = 12


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of the histogram: rows of `low` to `high` tokens, both included."""

    low: int
    high: int
    rows: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of rows in tokens."""

    shortest: int
    median: int
    ninety_fifth: int
    longest: int
    histogram: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStats:
    """The numbers of one side. The `lost_` ones are what a cut at `max_length` takes away."""

    rows: int
    lengths: Lengths | None
    tokens: int
    supervised_tokens: int
    max_length: int
    rows_too_long: int
    lost_tokens: int
    lost_supervised_tokens: int
    rows_left_without_supervised_tokens: int
    rows_without_end_of_turn: int
    rows_with_control_text: int
    faults: tuple[RowFault, ...]

    @property
    def supervised_share(self) -> float:
        """The part of all tokens that is trained."""
        return self.supervised_tokens / self.tokens if self.tokens else 0.0


def describe(
    samples: Sequence[Sample], tokenizer: Tokenizer, part: DataPart, task: TaskName
) -> DataStats:
    """Render samples and count; rows that cannot be rendered are in `faults`."""
    encoder = TextEncoder(tokenizer)
    rendered = list(render_all(samples, encoder, part, task))
    examples = [one for each in rendered if not isinstance(each, RowFault) for one in each]
    cuts = [fit(example, part.max_length, "truncate") for example in examples]
    return DataStats(
        rows=len(samples),
        lengths=measure([len(example.tokens) for example in examples]),
        tokens=sum(len(example.tokens) for example in examples),
        supervised_tokens=sum(example.supervised_tokens for example in examples),
        max_length=part.max_length,
        rows_too_long=sum(cut.lost_tokens > 0 for cut in cuts),
        lost_tokens=sum(cut.lost_tokens for cut in cuts),
        lost_supervised_tokens=sum(cut.lost_supervised_tokens for cut in cuts),
        rows_left_without_supervised_tokens=sum(
            not any(one.supervised_tokens for one in cut.examples) for cut in cuts
        ),
        rows_without_end_of_turn=sum(not example.has_end for example in examples),
        rows_with_control_text=sum(
            any(one.control_text for one in each)
            for each in rendered
            if not isinstance(each, RowFault)
        ),
        faults=tuple(one for one in rendered if isinstance(one, RowFault)),
    )


def measure(lengths: Sequence[int]) -> Lengths | None:
    """Summarise row lengths, or return None where there are none."""
    if not lengths:
        return None
    ordered = sorted(lengths)
    last = len(ordered) - 1
    return Lengths(
        shortest=ordered[0],
        median=ordered[last // 2],
        ninety_fifth=ordered[round(last * 0.95)],
        longest=ordered[-1],
        histogram=_histogram(ordered),
    )


def _histogram(ordered: Sequence[int]) -> tuple[Bin, ...]:
    shortest, longest = ordered[0], ordered[-1]
    width = max(1, -(-(longest - shortest + 1) // NUM_BINS))
    counts = [0] * (-(-(longest - shortest + 1) // width))
    for length in ordered:
        counts[(length - shortest) // width] += 1
    lows = [shortest + index * width for index in range(len(counts))]
    return tuple(Bin(low, low + width - 1, rows) for low, rows in zip(lows, counts, strict=True))
