from __future__ import annotations

import pytest

from tunesmith.training.strategies.division import divide, seed_of


def test_the_largest_go_first_to_whoever_has_least() -> None:
    assert divide([9, 7, 4, 3, 2], 2) == [[0, 3], [1, 2, 4]]


def test_a_rank_may_have_nothing() -> None:
    assert divide([5], 3) == [[0], [], []]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 7])
def test_every_micro_batch_is_somebodys(num_ranks: int) -> None:
    owned = divide([3, 3, 3, 8, 1, 1, 9], num_ranks)
    assert sorted(index for own in owned for index in own) == list(range(7))
    assert all(own == sorted(own) for own in owned)


def test_seeds_differ_by_run_step_and_micro_batch() -> None:
    seeds = {seed_of(seed, step, index) for seed in (0, 1) for step in (1, 2) for index in (0, 1)}
    assert len(seeds) == 8
    assert seed_of(0, 1, 2) == seed_of(0, 1, 2)
