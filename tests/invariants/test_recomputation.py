"""Computing layers again in the backward pass changes memory and time, and no number."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
)

from tests.fakes.tiny_llama import language_model, make_examples, make_llama, randomize_adapters
from tunesmith.data.collate import to_batch
from tunesmith.methods.select import apply_method
from tunesmith.models.hidden_states import recompute_layers
from tunesmith.models.load import backbone, output_head
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.training.loss import LanguageModel, summed_loss

METHODS = {
    "lora": LoraMethod(rank=4),
    "lora with dropout": LoraMethod(rank=4, dropout=0.5),
    "dora": LoraMethod(type="dora", rank=4),
    "full": FullMethod(),
}
LENGTHS = [40, 25, 150, 33]


def gradients(
    model: Any, part: LoraMethod | FullMethod, scored: LanguageModel
) -> tuple[float, dict[str, torch.Tensor]]:
    method = apply_method(model, part, seed=0)
    randomize_adapters(model)
    method.publish()
    scored.decoder.train()
    torch.manual_seed(5)
    loss = summed_loss(scored, to_batch(make_examples(LENGTHS, shared_prefix=12), pad_id=0)).total
    loss.backward()
    return loss.item(), {
        name: parameter.grad
        for name, parameter in method.trainable.items()
        if parameter.grad is not None
    }


def assert_same(left: tuple[float, Any], right: tuple[float, Any]) -> None:
    assert left[0] == right[0]
    assert left[1].keys() == right[1].keys()
    assert len(left[1]) > 0
    for name, gradient in left[1].items():
        assert gradient.equal(right[1][name]), name
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("part", METHODS.values(), ids=METHODS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_rows_in_a_line_have_the_same_gradient_bit_for_bit(
    part: LoraMethod | FullMethod, dtype: torch.dtype, share_prefix: bool
) -> None:
    kept, again = (
        gradients(model, part, language_model(model, share_prefix=share_prefix, recompute=flag))
        for flag, model in ((flag, make_llama(dtype=dtype)) for flag in (False, True))
    )
    assert_same(kept, again)


SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
OTHERS: dict[str, Any] = {
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8, attn_implementation="eager")
    ),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, hidden_dropout=0.1)),
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**SIZES, num_key_value_heads=2)),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("part", [METHODS["lora"], METHODS["full"]], ids=["lora", "full"])
def test_padded_rows_have_the_same_gradient_and_adapters_on_a_frozen_base_have_one(
    name: str, part: LoraMethod | FullMethod
) -> None:
    results: list[tuple[float, Any]] = []
    for again in (False, True):
        torch.manual_seed(0)
        model = OTHERS[name]().eval().requires_grad_(False)
        assert not again or recompute_layers(model)
        scored = LanguageModel(decoder=backbone(model), head=output_head(model))
        results.append(gradients(model, part, scored))
    assert_same(*results)


class _Malloc(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def bytes_in_use() -> int:
    mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2
    mallinfo2.restype = _Malloc
    info = mallinfo2()
    return info.uordblks + info.hblkhd


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc what is in use")
@pytest.mark.parametrize("part", [METHODS["lora"], METHODS["dora"]], ids=["lora", "dora"])
def test_only_the_layers_inputs_are_held_between_forward_and_backward(part: LoraMethod) -> None:
    held: list[int] = []
    for again in (False, True):
        model = make_llama(hidden_size=128, intermediate_size=256, num_hidden_layers=6)
        apply_method(model, part, seed=0)
        scored = language_model(model, recompute=again)
        batch = to_batch(make_examples([128] * 16), pad_id=0)
        before = bytes_in_use()
        loss = summed_loss(scored, batch).total
        held.append(bytes_in_use() - before)
        loss.backward()
    inputs = 2048 * 128 * 4
    assert held[1] < 6 * inputs + 8 * inputs  # the layers' inputs; the masks and the end
    assert held[1] < held[0] / 4
