from __future__ import annotations

import math

import numpy as np
import pytest

from tunesmith.tasks.scores.choices import (
    Likelihoods,
    share_of_true,
    true_is_likeliest,
    true_is_likeliest_per_token,
)


def likelihoods(*probabilities: float, tokens: tuple[int, ...] | None = None) -> Likelihoods:
    logs = np.log(np.array(probabilities))
    return Likelihoods(logs, np.array(tokens or [1] * len(probabilities)))


def test_mc1_asks_whether_the_true_candidate_is_likelier_than_each_other() -> None:
    assert true_is_likeliest(likelihoods(0.2, 0.5, 0.3), np.array([False, True, False]))
    assert not true_is_likeliest(likelihoods(0.2, 0.5, 0.3), np.array([False, False, True]))


def test_mc1_of_a_tie_is_wrong_as_in_truthful_qas_own_code() -> None:
    assert not true_is_likeliest(likelihoods(0.4, 0.4, 0.2), np.array([True, False, False]))


def test_mc2_is_the_share_of_the_true_candidates_in_the_probability_of_all() -> None:
    found = share_of_true(likelihoods(0.20, 0.10, 0.15, 0.05), np.array([True, True, False, False]))
    assert found == pytest.approx(0.6)


def test_mc2_holds_where_every_probability_underflows() -> None:
    logs = np.array([-2000.0, -2000.0 - math.log(3)])
    assert share_of_true(
        Likelihoods(logs, np.array([400, 400])), np.array([True, False])
    ) == pytest.approx(0.75)


def test_a_long_candidate_is_not_the_worse_for_it_per_token() -> None:
    long_is_better = likelihoods(0.1, 0.05, tokens=(1, 10))
    assert not true_is_likeliest(long_is_better, np.array([False, True]))
    assert true_is_likeliest_per_token(long_is_better, np.array([False, True]))
