from __future__ import annotations

import torch

from tunesmith.inference.sampling import Sampler


def test_draws_follow_the_probabilities() -> None:
    shares = torch.tensor([0.1, 0.6, 0.0, 0.3])
    sampler = Sampler(temperature=1.0, seed=0, numbers=range(4000))
    tokens = sampler.choose(shares.log().expand(4000, 4), range(4000))
    counts = torch.bincount(torch.tensor(tokens), minlength=4) / 4000
    assert (counts - shares).abs().max() < 0.03
    assert counts[2] == 0


def test_a_low_temperature_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    sampler = Sampler(temperature=0.01, seed=0, numbers=range(1))
    assert [sampler.choose(logits, [0]) for _ in range(20)] == [[1]] * 20


def test_a_row_draws_the_same_whoever_else_is_there() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    all_rows = Sampler(temperature=1.0, seed=3, numbers=range(3))
    one_row = Sampler(temperature=1.0, seed=3, numbers=range(3))
    for _ in range(10):
        assert all_rows.choose(logits, [0, 1, 2])[1] == one_row.choose(logits[1:2], [1])[0]
