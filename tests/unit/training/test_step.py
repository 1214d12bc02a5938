from __future__ import annotations

import pytest
import torch

from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tunesmith.data.collate import to_batch
from tunesmith.methods.select import apply_method
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.step import train_step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("part", [LoraMethod(rank=8), FullMethod()], ids=["lora", "full"])
def test_steps_of_the_real_optimizer_reach_the_model(
    part: LoraMethod | FullMethod, dtype: torch.dtype
) -> None:
    """The fused optimizer changes values behind autograd's back; the model must see them."""
    model = make_llama(dtype=dtype)
    method = apply_method(model, part, seed=0)
    optimizer = make_optimizer(method.trainable, TrainingPart(), learning_rate=1e-2)
    batches = [to_batch(make_examples([20, 30]), pad_id=0)]
    losses = [
        train_step(
            language_model(model),
            method,
            optimizer,
            batches,
            learning_rate=1e-2,
            max_gradient_norm=1.0,
        ).loss
        for _ in range(12)
    ]
    assert losses[-1] < 0.9 * losses[0]
