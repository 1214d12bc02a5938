from __future__ import annotations

import pytest

from tunesmith.inference.grouping import group_by_length


@pytest.mark.parametrize("max_tokens", [1, 10, 100, 10_000])
def test_every_row_is_in_one_group_and_groups_keep_to_the_budget(max_tokens: int) -> None:
    lengths = [(7 * index) % 41 + 1 for index in range(60)]
    groups = group_by_length(lengths, max_tokens=max_tokens)
    assert sorted(index for group in groups for index in group) == list(range(60))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= max_tokens


def test_the_longest_rows_come_first() -> None:
    assert group_by_length([3, 9, 4, 8], max_tokens=18) == [[1, 3], [2, 0]]


def test_no_rows_are_no_groups() -> None:
    assert group_by_length([], max_tokens=10) == []
