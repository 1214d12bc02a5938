"""Groups of rows of similar length, so that a batch holds little padding.

For lengths 3 9 4 8 and 18 tokens at most: rows [1, 3] are 2 x 9 = 18, rows [2, 0] are 2 x 4 = 8.
"""

from __future__ import annotations

from collections.abc import Sequence


def group_by_length(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Indices in groups, longest first, each of at most `max_tokens` with its padding.

    A row that is longer by itself forms its own group.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        group = groups[-1] if groups else []
        if not group or (len(group) + 1) * lengths[group[0]] > max_tokens:
            group = []
            groups.append(group)
        group.append(index)
    return groups
