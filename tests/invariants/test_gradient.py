"""Invariants 1, 2 and 5: the gradient of a step does not depend on how its rows are laid out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.fakes import flash_kernels
from tests.fakes.tiny_llama import (
    language_model,
    make_examples,
    make_llama,
    randomize_adapters,
)
from tunesmith.core.errors import RunError
from tunesmith.data.collate import to_batch
from tunesmith.data.pack import group_by_length
from tunesmith.data.render import Example
from tunesmith.methods.lora_method import apply_lora
from tunesmith.models import flash_attention, row_attention
from tunesmith.recipe.method import LoraMethod
from tunesmith.training.loss import summed_loss
from tunesmith.training.step import train_step

LENGTHS = [5, 9, 40, 12, 33, 7, 150, 21]


def gradients_of(groups: list[list[Example]], **changes: Any) -> dict[str, torch.Tensor]:
    """The gradient of one step, its rows in these micro-batches, for all trained parameters."""
    model = make_llama()
    applied = apply_lora(model, LoraMethod(rank=4, alpha=8), seed=0)
    randomize_adapters(model)
    batches = [to_batch(group, pad_id=0) for group in groups]
    weight = sum(float(batch.weights_BT.sum()) for batch in batches)
    for batch in batches:
        (summed_loss(language_model(model, **changes), batch).total / weight).backward()
    return {name: parameter.grad for name, parameter in applied.trainable.items()}


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=2e-6, rtol=2e-4)
        assert left[name].abs().max() > 0


def test_eight_micro_batches_of_one_row_equal_one_of_eight() -> None:
    rows = make_examples(LENGTHS)
    assert_same(gradients_of([[row] for row in rows]), gradients_of([rows]))


def test_grouping_by_length_does_not_change_the_gradient() -> None:
    rows = make_examples(LENGTHS)
    groups = group_by_length(range(len(rows)), LENGTHS, micro_batch_tokens=64)
    assert 2 < len(groups) < len(rows)
    grouped = [[rows[index] for index in group] for group in groups]
    assert_same(gradients_of(grouped), gradients_of([rows]))


@pytest.mark.parametrize("seed", range(3))
def test_a_shared_prefix_computed_once_gives_the_gradient_of_whole_rows(seed: int) -> None:
    rows = make_examples([30, 22, 160, 25], seed=seed, shared_prefix=17)
    shared, whole = gradients_of([rows]), gradients_of([rows], share_prefix=False)
    assert_same(shared, whole)


@pytest.mark.parametrize("shared_prefix", [0, 17])
def test_the_kernels_of_a_device_give_the_gradient_of_tiles(
    shared_prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_examples([30, 22, 160, 25], shared_prefix=shared_prefix)
    in_tiles = gradients_of([rows])
    flash_kernels.provide()
    monkeypatch.setattr(flash_attention, "computes", lambda *_: True)
    monkeypatch.setattr(row_attention, "_uncompiled", None)  # nothing is computed in tiles
    assert_same(gradients_of([rows]), in_tiles)


def test_packed_rows_equal_the_models_own_forward_and_backward() -> None:
    rows = make_examples([30, 22, 160, 25], shared_prefix=9)
    model = make_llama()
    applied = apply_lora(model, LoraMethod(rank=4, alpha=8), seed=0)
    randomize_adapters(model)
    total = torch.zeros(())
    for row in rows:
        tokens, weights = torch.tensor(row.tokens, dtype=torch.long), torch.tensor(row.weights)
        logits = model(input_ids=tokens[None], use_cache=False).logits[0]
        losses = torch.nn.functional.cross_entropy(logits[:-1], tokens[1:], reduction="none")
        total = total + (losses * weights[1:]).sum()
    total = total / sum(float(row.weights.sum()) for row in rows)
    total.backward()
    own = {name: parameter.grad for name, parameter in applied.trainable.items()}
    assert_same(gradients_of([rows]), own)


def test_a_batch_loss_is_the_sum_of_its_rows_alone() -> None:
    rows = make_examples(LENGTHS, shared_prefix=3)
    model = language_model(make_llama())
    together = summed_loss(model, to_batch(rows, pad_id=0))
    alone = [summed_loss(model, to_batch([row], pad_id=0)) for row in rows]
    assert together.total.item() == pytest.approx(sum(row.total.item() for row in alone), rel=1e-5)
    assert together.weight == sum(row.weight for row in alone)
    assert together.tokens == sum(row.tokens for row in alone)


def test_a_row_leaves_its_neighbours_losses_alone() -> None:
    """No target crosses a document border: another text in one row moves no other row's loss."""
    rows = make_examples([12, 14, 13], shared_prefix=9)
    other = make_examples([12, 14, 13], shared_prefix=9, seed=5)[0]
    silent = [
        Example(row.row_id, row.file, row.line, row.tokens, row.weights * 0)
        for row in (rows[0], other)
    ]
    model = language_model(make_llama())
    first, second = (
        summed_loss(model, to_batch([row, *rows[1:]], pad_id=0)).total.item() for row in silent
    )
    assert first == pytest.approx(second, rel=1e-6)


def test_weight_zero_contributes_nothing_and_other_weights_scale() -> None:
    (row,) = make_examples([20])
    model = language_model(make_llama())

    def loss_with(weights: Any) -> float:
        example = Example(row.row_id, row.file, row.line, row.tokens, weights)
        return summed_loss(model, to_batch([example], pad_id=0)).total.item()

    halves = row.weights.copy()
    halves[15:] = 0
    tail = row.weights - halves
    assert loss_with(halves) + loss_with(tail) == pytest.approx(loss_with(row.weights), rel=1e-5)
    assert loss_with(row.weights * 0.5) == pytest.approx(0.5 * loss_with(row.weights), rel=1e-5)
    assert loss_with(row.weights * 0) == 0


def test_a_row_without_supervised_tokens_leaves_the_step_finite_and_equal() -> None:
    silent, normal = make_examples([10, 20])
    silent = Example(silent.row_id, silent.file, silent.line, silent.tokens, silent.weights * 0)
    assert_same(gradients_of([[silent], [normal]]), gradients_of([[normal]]))


def test_a_loss_that_is_not_finite_stops_with_the_rows_and_updates_nothing() -> None:
    model = make_llama()
    applied = apply_lora(model, LoraMethod(rank=4), seed=0)
    with torch.no_grad():
        model.model.embed_tokens.weight[:] = float("inf")
    before = {name: value.detach().clone() for name, value in applied.trainable.items()}
    optimizer = torch.optim.AdamW(applied.trainable.values(), fused=True)
    with pytest.raises(RunError, match="rows:1, rows:2") as caught:
        train_step(
            language_model(model),
            applied,
            optimizer,
            [to_batch(make_examples([9, 12]), pad_id=0)],
            learning_rate=1e-3,
            max_gradient_norm=1.0,
        )
    assert caught.value.code == "not_finite"
    assert all(before[name].equal(value) for name, value in applied.trainable.items())
