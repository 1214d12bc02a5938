"""Rows through a model in batches, as many at a time as memory holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tunesmith.core.errors import Fault, RunError
from tunesmith.core.out_of_memory import is_out_of_memory, let_go
from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.render import Example
from tunesmith.inference.grouping import group_by_length

log = logging.getLogger(__name__)

BATCH_TOKENS = 2048

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Computed(Generic[T]):
    """What came of a batch; `batch.indices` are the places of its rows among all."""

    batch: Batch
    value: T


def compute_batches(
    compute: Callable[[Batch], T],
    examples: Sequence[Example],
    groups: Sequence[Sequence[int]],
    *,
    pad_id: int = 0,
) -> Iterator[Computed[T]]:
    """Compute each group of rows as a batch, each row once.

    Where memory runs out, the batch is computed in halves, and so are all after it.

    Raises:
        RunError: one row alone does not fit into memory.
    """
    remaining = [list(group) for group in groups]
    while remaining:
        group = remaining.pop(0)
        batch = to_batch([examples[index] for index in group], pad_id, group)
        computed = _if_it_fits(compute, batch)
        if computed is not None:
            yield computed
            continue
        rows = [*group, *(index for later in remaining for index in later)]
        lengths = [len(examples[index].tokens) for index in rows]
        parts = group_by_length(lengths, max_tokens=_half(batch))
        remaining = [[rows[place] for place in part] for part in parts]


def _if_it_fits(compute: Callable[[Batch], T], batch: Batch) -> Computed[T] | None:
    try:
        return Computed(batch, compute(batch))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        let_go(error)
    return None


def _half(batch: Batch) -> int:
    num_rows, longest = batch.tokens_BT.shape
    if num_rows == 1:
        fault = Fault(
            found=f"memory ran out at one held-out row of {longest:,} tokens",
            where=f"row {batch.row_ids[0]}",
            fix="set a shorter data.max_length, or take method: qlora or a smaller model",
        )
        raise RunError(fault, code="out_of_memory")
    log.warning(
        "memory ran out at %d held-out rows x %d tokens; going on with half", num_rows, longest
    )
    return num_rows // 2 * longest
