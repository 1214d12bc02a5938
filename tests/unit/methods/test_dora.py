"""DoRA and rank-stabilised LoRA: the same promises as LoRA, and the formulas themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.fakes.tiny_llama import VOCABULARY, make_llama, randomize_adapters
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.base import count_trainable
from tunesmith.methods.dora import DoraLinear
from tunesmith.methods.lora_method import AppliedLora, apply_lora
from tunesmith.methods.start import default_start
from tunesmith.methods.switching import adapters_off
from tunesmith.methods.targets import find_targets
from tunesmith.models.linear import bias_of, weight_of
from tunesmith.recipe.adapter_config import CONFIG_FILE
from tunesmith.recipe.method import LoraMethod

TOKENS = torch.arange(24).view(2, 12) % VOCABULARY
TYPES = ["dora", "rslora"]


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


def adapted_llama(type: str, **changes: Any) -> tuple[Any, AppliedLora]:
    model = make_llama()
    part = LoraMethod.model_validate({"type": type, "rank": 4, "alpha": 8.0, **changes})
    return model, apply_lora(model, part, seed=3)


def disturb(model: Any, applied: AppliedLora) -> None:
    """Give everything that is trained a value of its own."""
    randomize_adapters(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for layer in applied.layers.values():
            if isinstance(layer, DoraLinear):
                noise = torch.rand(layer.magnitude.shape, generator=generator)
                layer.magnitude.mul_(0.8 + 0.4 * noise)
    applied.publish()


@pytest.mark.parametrize("type", TYPES)
def test_an_adapter_at_step_0_changes_nothing(type: str) -> None:
    model, applied = adapted_llama(type)
    torch.testing.assert_close(logits_of(model), logits_of(make_llama()), atol=1e-6, rtol=1e-6)
    applied.publish()
    torch.testing.assert_close(logits_of(model), logits_of(make_llama()), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("type", TYPES)
def test_adapters_off_gives_the_base(type: str) -> None:
    model, applied = adapted_llama(type)
    disturb(model, applied)
    with adapters_off(model):
        assert logits_of(model).equal(logits_of(make_llama()))
    assert not logits_of(model).equal(logits_of(make_llama()))


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "down_proj")])
def test_peft_loads_the_saved_adapter_with_equal_logits(
    tmp_path: Path, type: str, targets: Any
) -> None:
    model, applied = adapted_llama(type, targets=targets)
    disturb(model, applied)
    applied.save(tmp_path, base="some/base")
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert config[f"use_{type}"] is True
    theirs = peft.PeftModel.from_pretrained(make_llama(), tmp_path)
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-5, rtol=1e-5)
    again = make_llama()
    load_adapter(again, tmp_path)
    assert logits_of(again).equal(logits_of(model))


@pytest.mark.parametrize("type", TYPES)
def test_what_peft_saved_is_loaded_with_equal_logits(tmp_path: Path, type: str) -> None:
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], **{f"use_{type}": True}
    )
    theirs = peft.get_peft_model(make_llama(), config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
        if "magnitude" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    theirs.save_pretrained(tmp_path)
    model = make_llama()
    load_adapter(model, tmp_path)
    torch.testing.assert_close(logits_of(model), logits_of(theirs), atol=1e-5, rtol=1e-5)


def test_the_trainable_count_is_the_closed_form() -> None:
    _, applied = adapted_llama("dora")
    linears = find_targets(make_llama(), "all-linear").values()
    per_layer = [4 * (m.in_features + m.out_features) + m.out_features for m in linears]
    assert count_trainable(applied) == sum(per_layer)


def test_merged_weights_equal_the_adapter_applied() -> None:
    model, applied = adapted_llama("dora")
    disturb(model, applied)
    merged = make_llama()
    with torch.no_grad():
        for path, layer in applied.layers.items():
            assert isinstance(layer, DoraLinear)
            linear = merged.get_submodule(path)
            whole = linear.weight + layer.scale * layer.lora_B @ layer.lora_A
            linear.weight.copy_(whole * (layer.magnitude / whole.norm(dim=1))[:, None])
    torch.testing.assert_close(logits_of(merged), logits_of(model), atol=1e-4, rtol=1e-4)


def make_layer(*, bias: bool, dropout: float = 0.0) -> DoraLinear:
    torch.manual_seed(0)
    base = nn.Linear(12, 7, bias=bias).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    layer = DoraLinear(base, default_start(base, 3, generator), scale=0.5, dropout=dropout)
    with torch.no_grad():
        layer.lora_B.normal_(std=0.3)
        layer.magnitude.mul_(torch.rand(7) + 0.5)
    layer.measure()
    return layer


def plain_forward(layer: DoraLinear, inputs: torch.Tensor) -> torch.Tensor:
    """The paper's formula, with the length as a constant."""
    whole = weight_of(layer.base) + layer.scale * layer.lora_B @ layer.lora_A
    gain = layer.magnitude / whole.norm(dim=1).detach()
    bias = bias_of(layer.base)
    output = F.linear(inputs, whole) * gain
    return output if bias is None else output + bias


@pytest.mark.parametrize("bias", [False, True])
def test_output_and_gradients_are_the_formulas(bias: bool) -> None:
    layer = make_layer(bias=bias)
    inputs = torch.randn(2, 5, 12, requires_grad=True)
    trained = [inputs, layer.lora_A, layer.lora_B, layer.magnitude]
    wanted = plain_forward(layer, inputs)
    seed = torch.randn(wanted.shape)
    wanted_gradients = torch.autograd.grad(wanted, trained, seed)
    output = layer(inputs)
    torch.testing.assert_close(output, wanted, atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(output, trained, seed)
    for gradient, one in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(gradient, one, atol=1e-5, rtol=1e-4)


def test_the_length_is_that_of_the_whole_rows() -> None:
    layer = make_layer(bias=False)
    whole = weight_of(layer.base) + layer.scale * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(layer.norm, whole.norm(dim=1), atol=1e-6, rtol=1e-6)


def test_dropout_keeps_the_formula_and_is_off_outside_training() -> None:
    layer = make_layer(bias=True, dropout=0.5)
    inputs = torch.randn(4, 12)
    torch.testing.assert_close(layer.eval()(inputs), plain_forward(layer, inputs))
    torch.manual_seed(0)
    output = layer.train()(inputs)
    torch.manual_seed(0)
    dropped = F.dropout(inputs, 0.5)
    update = F.linear(F.linear(dropped, layer.lora_A), layer.lora_B * layer.scale)
    gain = layer.magnitude / layer.norm
    wanted = (F.linear(inputs, weight_of(layer.base)) + update) * gain + layer.base.bias
    torch.testing.assert_close(output, wanted)


def test_a_length_of_zero_stops_nothing() -> None:
    layer = make_layer(bias=False)
    with torch.no_grad():
        layer.magnitude[2] = 0.0
    output = layer(torch.randn(3, 12))
    output.sum().backward()
    assert output.isfinite().all()
    assert layer.magnitude.grad is not None
    assert layer.magnitude.grad.isfinite().all()


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    _, applied = adapted_llama("rslora")
    assert {layer.scale for layer in applied.layers.values()} == {8.0 / 2.0}
