from __future__ import annotations

import pytest

from tunesmith.core.errors import RecipeError
from tunesmith.recipe.share import Share
from tunesmith.training.schedule import Schedule, count_warmup_steps, learning_rate


def rates(schedule: Schedule, *, total: int, warmup: int, peak: float = 2e-4) -> list[float]:
    return [
        learning_rate(step, total_steps=total, warmup_steps=warmup, peak=peak, schedule=schedule)
        for step in range(1, total + 1)
    ]


def test_linear_without_warmup_starts_at_the_peak_and_falls_evenly() -> None:
    assert rates("linear", total=8, warmup=0)[3:] == pytest.approx(
        [1.25e-4, 1e-4, 7.5e-5, 5e-5, 2.5e-5], abs=1e-12
    )
    assert rates("linear", total=8, warmup=0)[0] == 2e-4


def test_warmup_rises_evenly_to_the_peak() -> None:
    assert rates("constant", total=6, warmup=4) == pytest.approx(
        [5e-5, 1e-4, 1.5e-4, 2e-4, 2e-4, 2e-4]
    )


def test_cosine_is_half_way_down_in_the_middle_and_never_negative() -> None:
    values = rates("cosine", total=101, warmup=1)
    assert values[1] == 2e-4
    assert values[51] == pytest.approx(1e-4)
    assert min(values) > 0
    assert values[1:] == sorted(values[1:], reverse=True)


def test_a_share_of_warmup_is_rounded_up() -> None:
    assert count_warmup_steps(Share(0.03), total_steps=15, peak=1e-4) == 1
    assert count_warmup_steps(Share(0.1), total_steps=30, peak=1e-4) == 3
    assert count_warmup_steps(Share(0.0), total_steps=30, peak=1e-4) == 0


def test_a_warmup_longer_than_the_run_is_refused_with_the_rate_that_it_would_reach() -> None:
    with pytest.raises(RecipeError, match=r"50 steps in a run of 6.*4\.8e-05"):
        count_warmup_steps(50, total_steps=6, peak=4e-4)
