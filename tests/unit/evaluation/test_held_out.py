from __future__ import annotations

import math

import pytest
import torch

from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tunesmith.core.errors import RunError
from tunesmith.data.collate import Batch
from tunesmith.evaluation.before_after import measure_loss
from tunesmith.evaluation.held_out import HeldOut, held_out_loss
from tunesmith.training.loss import SummedLoss

LENGTHS = [5, 40, 12, 33, 7, 21, 40, 3, 18, 26]


@pytest.mark.parametrize("shared_prefix", [0, 2])
@pytest.mark.parametrize("max_tokens", [50, 10_000])
def test_batches_give_the_loss_of_the_rows_one_by_one(shared_prefix: int, max_tokens: int) -> None:
    model = language_model(make_llama())
    examples = make_examples(LENGTHS, shared_prefix=shared_prefix)
    together = measure_loss(model, examples, max_tokens=max_tokens)
    alone = [measure_loss(model, [example]) for example in examples]
    assert together.loss_sum == pytest.approx(sum(one.loss_sum for one in alone), rel=1e-5)
    assert together.weight == sum(one.weight for one in alone)
    assert together.tokens == sum(one.tokens for one in alone)
    assert together.correct == sum(one.correct for one in alone)


def test_the_loss_is_the_one_that_the_library_computes() -> None:
    llama = make_llama()
    (example,) = make_examples([30])
    with torch.no_grad():
        tokens = torch.from_numpy(example.tokens).long()[None]
        logits = llama(input_ids=tokens, use_cache=False).logits[0, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none")
    supervised = torch.from_numpy(example.weights[1:]) > 0
    expected = losses[supervised].mean().item()
    assert measure_loss(language_model(llama), [example]).loss == pytest.approx(expected, rel=1e-5)


def test_long_rows_count_by_their_tokens_and_not_as_one_row_each() -> None:
    def loss_of(batch: Batch) -> SummedLoss:
        tokens = int((batch.weights_BT > 0).sum())
        loss = 1.0 if batch.tokens_BT.shape[1] > 10 else 3.0
        return SummedLoss(torch.tensor(loss * tokens), float(tokens), tokens, 0)

    examples = make_examples([4, 100], prompt_share=0.0)
    held_out = held_out_loss(loss_of, examples, max_tokens=100)
    assert held_out.loss == pytest.approx((3.0 * 3 + 1.0 * 99) / 102)


def test_perplexity_is_the_exponential_and_never_fails() -> None:
    assert HeldOut(20.0, 10.0, 10, 5, 1).perplexity == pytest.approx(math.exp(2))
    assert HeldOut(1e6, 10.0, 10, 5, 1).perplexity == math.inf


def test_a_loss_that_is_no_number_names_its_rows() -> None:
    llama = make_llama()
    llama.model.norm.weight.data[0] = float("nan")
    with pytest.raises(RunError, match="rows:2") as caught:
        measure_loss(language_model(llama), make_examples([5, 9]), max_tokens=9)
    assert caught.value.code == "loss_not_finite"


def test_measuring_keeps_no_graph_and_leaves_the_mode() -> None:
    llama = make_llama()
    llama.requires_grad_(True)
    llama.train()
    measure_loss(language_model(llama), make_examples([9]))
    assert llama.training
    assert all(parameter.grad is None for parameter in llama.parameters())
