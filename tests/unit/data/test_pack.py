from __future__ import annotations

import random
from collections import Counter

import pytest

from tunesmith.data.pack import StepPlan, group_by_length, plan_steps


def plan(
    lengths: list[int],
    *,
    epochs: float = 1.0,
    max_steps: int | None = None,
    tokens_per_step: int = 100,
    micro_batch_tokens: int = 40,
    seed: int = 0,
) -> tuple[StepPlan, ...]:
    return plan_steps(
        lengths,
        epochs=epochs,
        max_steps=max_steps,
        tokens_per_step=tokens_per_step,
        micro_batch_tokens=micro_batch_tokens,
        seed=seed,
    )


def random_lengths(seed: int) -> list[int]:
    generator = random.Random(seed)
    return [generator.randint(1, 60) for _ in range(generator.randint(1, 120))]


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_seen_once_an_epoch_and_no_step_crosses_epochs(seed: int) -> None:
    lengths = random_lengths(seed)
    steps = plan(lengths, epochs=3, seed=seed)
    for epoch in range(3):
        rows = [row for one in steps if epoch < one.epoch <= epoch + 1 for row in one.rows]
        assert sorted(rows) == list(range(len(lengths)))
    assert steps[-1].epoch == 3
    assert [one.step for one in steps] == list(range(1, len(steps) + 1))


@pytest.mark.parametrize("seed", range(20))
def test_budgets_hold_but_for_single_rows_that_are_longer(seed: int) -> None:
    lengths = random_lengths(seed)
    for step in plan(lengths, tokens_per_step=50, micro_batch_tokens=30, seed=seed):
        assert sum(lengths[row] for row in step.rows) <= 50 or len(step.rows) == 1
        for group in step.micro_batches:
            longest = max(lengths[row] for row in group)
            assert len(group) * longest <= 30 or len(group) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_step_is_as_full_as_the_next_row_allows(seed: int) -> None:
    lengths = random_lengths(seed)
    steps = plan(lengths, seed=seed)
    for step in steps[:-1]:
        assert sum(lengths[row] for row in step.rows) > 100 - 60


def test_epochs_have_orders_of_their_own_that_follow_from_the_seed() -> None:
    lengths = [10] * 50
    steps = plan(lengths, epochs=2, tokens_per_step=10)
    orders = [one.rows[0] for one in steps]
    assert orders[:50] != orders[50:]
    assert plan(lengths, epochs=2, tokens_per_step=10) == steps
    assert plan(lengths, epochs=2, tokens_per_step=10, seed=1) != steps


def test_the_order_of_an_epoch_does_not_depend_on_how_many_follow() -> None:
    lengths = random_lengths(3)
    one, three = plan(lengths, epochs=1), plan(lengths, epochs=3)
    assert three[: len(one)] == one
    assert plan(lengths, max_steps=len(one)) == one


@pytest.mark.parametrize("epochs", [0.5, 1.25, 2.9])
def test_a_fraction_of_an_epoch_ends_after_its_share_of_the_rows(epochs: float) -> None:
    lengths = [10] * 40
    steps = plan(lengths, epochs=epochs, tokens_per_step=30)
    assert sum(len(one.rows) for one in steps) == 40 * epochs
    assert steps[-1].epoch == pytest.approx(epochs)


def test_the_smallest_fraction_still_trains_a_row() -> None:
    assert len(plan([5, 5, 5], epochs=0.01)) == 1


def test_max_steps_replaces_epochs_and_cycles_as_often_as_it_takes() -> None:
    steps = plan([10] * 4, epochs=1, max_steps=9, tokens_per_step=10)
    assert len(steps) == 9
    assert set(Counter(row for one in steps[:8] for row in one.rows).values()) == {2}
    assert steps[-1].epoch == 2.25
    assert len(plan([10] * 4, epochs=5, max_steps=2, tokens_per_step=10)) == 2


def test_the_last_step_of_an_epoch_takes_the_rest() -> None:
    steps = plan([10] * 21, max_steps=6, tokens_per_step=80)
    assert [len(one.rows) for one in steps] == [8, 8, 5, 8, 8, 5]
    assert steps[-1].epoch == 2.0
    assert set(Counter(row for one in steps for row in one.rows).values()) == {2}


def test_the_longest_rows_come_first_in_a_step() -> None:
    assert group_by_length([0, 1, 2, 3], [9, 4, 8, 5], 18) == ((0, 2), (3, 1))


def test_a_row_longer_than_the_budget_is_alone() -> None:
    assert group_by_length([0, 1, 2], [100, 4, 4], 8) == ((0,), (1, 2))


def test_the_order_is_the_same_on_every_machine() -> None:
    steps = plan([1] * 8, tokens_per_step=1, seed=7)
    assert [one.rows[0] for one in steps] == [5, 1, 2, 6, 0, 3, 4, 7]
