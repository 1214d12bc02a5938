from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tunesmith.data.collate import to_batch
from tunesmith.methods.base import count_trainable
from tunesmith.methods.full import AppliedFull, apply_full
from tunesmith.training.step import train_step


def one_step(dtype: torch.dtype, *, micro_batches: int = 1) -> AppliedFull:
    model = make_llama(dtype=dtype)
    applied = apply_full(model)
    rows = make_examples([20, 30, 25, 18])
    size = len(rows) // micro_batches
    train_step(
        language_model(model),
        applied,
        torch.optim.AdamW(applied.trainable.values(), fused=True),
        [to_batch(rows[at : at + size], pad_id=0) for at in range(0, len(rows), size)],
        learning_rate=1e-3,
        max_gradient_norm=1.0,
    )
    return applied


def test_every_weight_is_trained_and_a_tied_one_counts_once() -> None:
    model = make_llama()
    total = sum(parameter.numel() for parameter in model.parameters())
    assert count_trainable(apply_full(model)) == total


def test_all_weights_move_and_accumulation_does_not_matter() -> None:
    whole, parts = one_step(torch.float32), one_step(torch.float32, micro_batches=4)
    start = dict(make_llama().named_parameters())
    for name, value in whole.trainable.items():
        assert not value.equal(start[name]), name
        torch.testing.assert_close(parts.trainable[name], value, atol=2e-5, rtol=1e-3)


def test_a_bf16_model_is_stepped_in_fp32_and_computes_with_the_rounded_values() -> None:
    applied = one_step(torch.bfloat16, micro_batches=2)
    weights = dict(applied.model.named_parameters())
    for name, master in applied.trainable.items():
        assert master.dtype == torch.float32
        assert weights[name].equal(master.to(torch.bfloat16))
        assert weights[name].grad is None
    assert any(not master.equal(weights[name].float()) for name, master in applied.masters.items())


def test_the_saved_model_is_what_was_trained(tmp_path: Path) -> None:
    applied = one_step(torch.bfloat16)
    applied.save(tmp_path, base="unused")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        assert loaded(input_ids=tokens).logits.equal(applied.model(input_ids=tokens).logits)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
