"""From row lengths to steps: which rows make up a step, and which of them share a micro-batch.

    rows of an epoch, shuffled   |  7 3 9 2 5 4 8 |          (their lengths)
    steps of <= 16 tokens        |  7 3 | 9 2 5 | 4 8 |
    micro-batches of <= 10       |  7, 3 | 9, 5 2 | 8, 4 |   (rows x longest, the longest first)

The plan is a pure function of its arguments: a run that is resumed plans again and goes on at step
k.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count

MicroBatch = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One optimizer step: `epoch` is how many epochs are complete once it is done."""

    step: int
    epoch: float
    micro_batches: tuple[MicroBatch, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        """All rows of the step."""
        return tuple(row for micro_batch in self.micro_batches for row in micro_batch)


def plan_steps(
    lengths: Sequence[int],
    *,
    epochs: float,
    max_steps: int | None,
    tokens_per_step: int,
    micro_batch_tokens: int,
    seed: int,
    padded: Sequence[int] | None = None,
) -> tuple[StepPlan, ...]:
    """Plan every step of a run over rows of these lengths.

    `padded` is the room that each takes in a micro-batch where it is more than its length: of a
    pair that is two rows, twice the longer one.

    A step takes rows in the epoch's order while their real tokens stay within `tokens_per_step` (a
    longer row makes a step of its own) and never reaches into the next epoch. `epochs` may be a
    fraction: the last epoch then ends after its share of the rows. `max_steps`, where given,
    replaces `epochs`.
    """
    assert lengths, "there is nothing to plan without rows"
    assert min(lengths) > 0, "a row without tokens cannot be trained"
    plans: list[StepPlan] = []
    num_rows = len(lengths)
    for epoch, rows_of_epoch in _epochs(num_rows, None if max_steps else epochs, seed):
        num_done = 0
        for rows in _fill(rows_of_epoch, lengths, tokens_per_step):
            num_done += len(rows)
            plans.append(
                StepPlan(
                    step=len(plans) + 1,
                    epoch=epoch + num_done / num_rows,
                    micro_batches=group_by_length(rows, padded or lengths, micro_batch_tokens),
                )
            )
            if len(plans) == max_steps:
                return tuple(plans)
    return tuple(plans)


def group_by_length(
    rows: Sequence[int], lengths: Sequence[int] | Mapping[int, int], micro_batch_tokens: int
) -> tuple[MicroBatch, ...]:
    """Group rows so that a padded group holds at most `micro_batch_tokens`; a longer row is alone.

    The longest rows come first: the peak of memory is met at the first micro-batch, not at the
    last.
    """
    longest_first = sorted(rows, key=lambda row: (-lengths[row], row))
    groups: list[list[int]] = []
    for row in longest_first:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= micro_batch_tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return tuple(tuple(group) for group in groups)


def _epochs(num_rows: int, epochs: float | None, seed: int) -> Iterator[tuple[int, list[int]]]:
    """Yield each epoch's number and its rows in order; without `epochs` there is no end."""
    for epoch in count():
        left = 1.0 if epochs is None else epochs - epoch
        # A share below half a row is rounding of the number of epochs, except where it is all there
        # is.
        num_taken = min(num_rows, round(left * num_rows)) if left > 0 else 0
        if epoch == 0:
            num_taken = max(num_taken, 1)
        if num_taken <= 0:
            return
        yield epoch, _shuffle(num_rows, seed, epoch)[:num_taken]


def _shuffle(num_rows: int, seed: int, epoch: int) -> list[int]:
    """Order rows by a hash, so that the order depends on no library's generator or its version."""

    def key(row: int) -> bytes:
        return blake2b(f"{seed}/{epoch}/{row}".encode(), digest_size=16).digest()

    return sorted(range(num_rows), key=key)


def _fill(rows: Sequence[int], lengths: Sequence[int], tokens_per_step: int) -> Iterator[list[int]]:
    step: list[int] = []
    num_tokens = 0
    for row in rows:
        if step and num_tokens + lengths[row] > tokens_per_step:
            yield step
            step, num_tokens = [], 0
        step.append(row)
        num_tokens += lengths[row]
    if step:
        yield step
