"""Divides a step's micro-batches over ranks: the largest first, each to the rank with least so far.

    sizes 9 7 4 3 2, two ranks     rank 0: 9 3       rank 1: 7 4 2

A pure function of the plan, so every rank knows what all others do. Dropout is drawn from a number
of each micro-batch's own: the masks do not depend on how many ranks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b


def divide(sizes: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Return the indices of each rank, in order; a rank may have none."""
    owned: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        rank = min(range(num_ranks), key=lambda rank: (loads[rank], rank))
        owned[rank].append(index)
        loads[rank] += sizes[index]
    return [sorted(own) for own in owned]


def divide_in_step(sizes: Sequence[int], num_ranks: int) -> list[list[tuple[int, bool]]]:
    """Divide so that every rank has as many: (index, whether it counts on this rank).

    What does not count is the smallest of all, computed once more.
    """
    owned = divide(sizes, num_ranks)
    most = max(map(len, owned))
    smallest = min(range(len(sizes)), key=lambda index: (sizes[index], index))
    return [
        [(index, True) for index in own] + [(smallest, False)] * (most - len(own)) for own in owned
    ]


def seed_of(seed: int, step: int, index: int) -> int:
    """Return what a micro-batch's dropout is drawn from."""
    digest = blake2b(f"{seed}/{step}/{index}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
