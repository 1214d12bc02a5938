"""Which of a run's state a rank keeps its part of, by strategy: the bytes that a plan counts.

    psi values, n ranks, gradients and Adam's two moments in fp32 (bytes a trained value)

               weights        masters        gradients   moments
    single     2 or 4         4 where 16-bit 4           8
    ddp        2 or 4         4 where 16-bit 4           8
    zero 1     2 or 4         4 / n          4 + 4 / n   8 / n
    zero 2     2 or 4         4 / n          4 / n       8 / n
    zero 3     (2 or 4) / n   4 / n          4 / n       8 / n
    fsdp       4 / n          none           4 / n       8 / n

Rajbhandari et al., 2020 (ZeRO), section 5, counts gradients in 16 bits; here they are added up in
fp32. DeepSpeed steps copies of its part even where weights are fp32, with stage 1 has its part of
the sum beside whole gradients, and with stage 3 keeps small tensors, such as the factors of an
adapter, whole beside their parts. `benchmarks/zero.py` holds this beside what ranks really hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from tunesmith.recipe.strategy import (
    DdpStrategy,
    DeepSpeedStrategy,
    FsdpStrategy,
    SingleStrategy,
    Strategy,
)

# DeepSpeed collects gradients in a buffer of so many values before it exchanges them. Its own
# default, 5e8, is 2 GB in fp32 that a bounded process may not have.
BUCKET_VALUES = 2**23
# ZeRO 3 keeps so many values put together from a forward to its backward pass. The engine's own
# default, 1e9, is every weight of a small model, which then is spread between steps only.
LIVE_VALUES = 2**24
# With offload to a disk so many values are read, stepped and written at once, and the engine's
# pools are so many tensors: a value, its gradient and two moments; parts of weights.
STEPPED_VALUES = 2**22
STATE_BUFFERS, WEIGHT_BUFFERS = 4, 5


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What is divided over `ranks`; `copies` where the engine steps fp32 copies of fp32 values.

    `on_disk`: weights, copies and moments lie on a disk and not in memory.
    """

    ranks: int = 1
    optimizer: bool = False
    gradients: bool = False
    weights: bool = False
    copies: bool = False
    on_disk: bool = False

    def part(self, size: float, *, spread: bool) -> int:
        """Return a rank's part of so many bytes."""
        return int(size / self.ranks) if spread else int(size)


ALONE = Spread()


def spread_of(strategy: Strategy, num_ranks: int) -> Spread:
    """Return what a strategy spreads over so many ranks."""
    match strategy:
        case SingleStrategy():
            return ALONE
        case DdpStrategy():
            return Spread(ranks=num_ranks)
        case DeepSpeedStrategy():
            return Spread(
                ranks=num_ranks,
                optimizer=True,
                gradients=strategy.zero > 1,
                weights=strategy.zero > 2,
                copies=True,
                on_disk=strategy.offload == "disk",
            )
        case FsdpStrategy():
            return Spread(ranks=num_ranks, optimizer=True, gradients=True, weights=True)
        case _:
            assert_never(strategy)
