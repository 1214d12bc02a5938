"""Quantised bases: how far the weights move, what is left alone, gradients, adapters on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fakes.tiny_llama import VOCABULARY, make_llama, randomize_adapters
from tests.unit.models.tiny_models import make_model
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.lora_method import apply_lora
from tunesmith.methods.switching import adapters_off
from tunesmith.models.hidden_states import hidden_states
from tunesmith.models.linear import is_quantised, weight_of
from tunesmith.models.quantise import quantise_model
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.model import BaseForm

TOKENS = torch.arange(24).view(2, 12) % VOCABULARY
FORMS: list[BaseForm] = ["nf4", "fp4", "int8"]
# The largest relative error of a normal matrix: 4 bits in blocks of 64, 8 bits in rows.
LARGEST_ERROR = {"nf4": 0.11, "fp4": 0.16, "int8": 0.01}


def llama(dtype: torch.dtype = torch.float32) -> Any:
    return make_llama(hidden_size=64, intermediate_size=128, dtype=dtype)


def quantised(form: BaseForm, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    model = llama()
    quantise_model(
        model, [model.lm_head], form, **{"double_quant": True, "dtype": dtype, **changes}
    )
    return model


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


@pytest.mark.parametrize("form", FORMS)
def test_every_linear_but_the_head_is_near_its_original(form: BaseForm) -> None:
    model, whole = quantised(form), llama()
    paths = [path for path, module in model.named_modules() if is_quantised(module)]
    assert len(paths) == 2 * 7
    for path in paths:
        matrix = whole.get_submodule(path).weight
        error = (weight_of(model.get_submodule(path)) - matrix).norm() / matrix.norm()
        assert 0 < error < LARGEST_ERROR[form], (path, float(error))
    assert model.lm_head.weight.equal(whole.lm_head.weight)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_double_quantisation_moves_weights_a_little_and_takes_fewer_bytes() -> None:
    once, twice = quantised("nf4", double_quant=False), quantised("nf4")
    path = "model.layers.0.mlp.up_proj"
    one, other = (weight_of(model.get_submodule(path)) for model in (once, twice))
    assert not one.equal(other)
    assert (one - other).norm() < 0.02 * one.norm()
    states = [model.get_submodule(path).weight.quant_state for model in (once, twice)]
    assert [state.absmax.dtype for state in states] == [torch.float32, torch.uint8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_output_and_gradient_are_those_of_the_dequantised_matrix(
    form: BaseForm, dtype: torch.dtype
) -> None:
    layer = quantised(form, dtype).model.layers[0].self_attn.q_proj
    inputs = torch.randn(5, 64, dtype=dtype, requires_grad=True)
    output = layer(inputs)
    output.sum().backward()
    assert output.dtype == dtype
    matrix = weight_of(layer)
    assert matrix.dtype == dtype
    assert output.equal(inputs @ matrix.T)
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad, torch.ones_like(output) @ matrix)


@pytest.mark.parametrize("type", ["lora", "dora"])
@pytest.mark.parametrize("form", FORMS)
def test_an_adapter_on_it_starts_as_nothing_trains_alone_and_comes_back(
    tmp_path: Path, form: BaseForm, type: Any
) -> None:
    model = quantised(form)
    base = logits_of(model)
    applied = apply_lora(model, LoraMethod(type=type, rank=4), seed=0)
    torch.testing.assert_close(logits_of(model), base, atol=1e-5, rtol=1e-5)
    model.train()
    model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward()
    trained = {id(parameter) for parameter in applied.trainable.values()}
    assert {id(p) for p in model.parameters() if p.grad is not None} == trained
    model.eval()
    randomize_adapters(model)
    applied.publish()
    with adapters_off(model):
        assert logits_of(model).equal(base)
    applied.save(tmp_path, base="some/base")
    again = quantised(form)
    load_adapter(again, tmp_path)
    assert logits_of(again).equal(logits_of(model))


@pytest.mark.parametrize("recompute", [False, True])
def test_the_way_without_padding_gives_the_same_gradients(recompute: bool) -> None:
    gradients: list[list[Tensor]] = []
    lengths = torch.tensor([12, 9])
    asked = torch.arange(12)[None, :] < lengths[:, None]
    for packed in (True, False):
        model = quantised("nf4")
        applied = apply_lora(model, LoraMethod(rank=4), seed=0)
        randomize_adapters(model)
        if packed:
            hidden = hidden_states(model.model, TOKENS, lengths, asked, recompute=recompute)
        else:
            output = model.model(input_ids=TOKENS, attention_mask=asked.long(), use_cache=False)
            hidden = output.last_hidden_state[asked]
        hidden.square().sum().backward()
        gradients.append([p.grad for p in applied.trainable.values() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_gpt2s_transposed_layers_are_kept_the_right_way_round() -> None:
    model = make_model("gpt2", n_embd=64)
    tokens = TOKENS[:, :8]
    with torch.no_grad():
        whole = model(input_ids=tokens).logits
        quantise_model(model, [model.lm_head], "int8", double_quant=True, dtype=torch.float32)
        rounded = model(input_ids=tokens).logits
    assert sum(is_quantised(module) for module in model.modules()) == 2 * 4
    assert 0 < (rounded - whole).norm() < 0.05 * whole.norm()
