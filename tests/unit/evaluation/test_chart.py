from __future__ import annotations

import pytest

from tunesmith.evaluation.chart import draw_loss, smoothed
from tunesmith.evaluation.report_facts import Curve


def test_the_smooth_line_is_weighted_by_tokens() -> None:
    smooth = smoothed([9.0, 1.0, 4.0, 9.0, 9.0], [1.0, 1.0, 2.0, 3.0, 1.0], span=3)
    assert smooth[2] == pytest.approx((1 * 1 + 4 * 2 + 9 * 3) / 6)


def test_the_smooth_line_of_a_straight_one_is_the_same_line() -> None:
    losses = [5.0, 4.0, 3.0, 2.0, 1.0]
    assert smoothed(losses, [1.0] * 5, span=3)[:4] == pytest.approx(losses[:4])


def test_many_steps_are_drawn_in_little_time_and_size() -> None:
    steps = tuple(range(1, 30_001))
    curve = Curve(steps, tuple(1 + 1 / step for step in steps), (1.0,) * len(steps), ())
    assert len(draw_loss(curve)) < 200_000


def test_a_loss_of_zero_can_be_drawn() -> None:
    assert draw_loss(Curve((1, 2), (0.0, 0.0), (1.0, 1.0), ((0, 0.0),)))
