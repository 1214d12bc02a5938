"""Where adapters start: the decompositions, and what each start promises of step 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from tests.fakes.tiny_llama import VOCABULARY, make_llama, randomize_adapters
from tunesmith.methods.attach import load_adapter
from tunesmith.methods.lora_method import AppliedLora, apply_lora
from tunesmith.methods.start import default_start, principal_start
from tunesmith.methods.switching import adapters_off
from tunesmith.models.originals import Originals
from tunesmith.models.quantise import quantise_model
from tunesmith.recipe.method import LoraMethod

TOKENS = torch.arange(24).view(2, 12) % VOCABULARY
RANK, SCALE = 4, 2.0


def logits_of(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


def method(**changes: Any) -> LoraMethod:
    return LoraMethod.model_validate({"rank": RANK, "alpha": 8.0, **changes})


def wide_llama() -> Any:
    """Rows of 64 and more: the smallest block that is quantised with one scale."""
    return make_llama(hidden_size=64, intermediate_size=128)


def quantised_llama(base: Any = "nf4") -> Any:
    model = wide_llama()
    quantise_model(model, [model.lm_head], base, double_quant=True, dtype=torch.float32)
    return model


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (400, 300)])
def test_the_product_is_the_best_approximation_of_this_rank(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    # strengths that fall off, as those of real weights do; a random projection finds these
    left, _ = torch.linalg.qr(torch.randn(shape[0], min(shape), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(shape[1], min(shape), generator=generator))
    strengths = 0.7 ** torch.arange(min(shape))
    matrix = left * strengths @ right.T
    start = principal_start(matrix, RANK, SCALE, generator, is_subtracted=False)
    rest = matrix - SCALE * start.b @ start.a
    wanted = strengths[RANK:].square().sum().sqrt()  # Eckart and Young, 1936
    torch.testing.assert_close(rest.norm(), wanted, rtol=1e-3, atol=1e-5)


def test_a_rank_above_the_matrix_leaves_zeros() -> None:
    matrix = torch.randn(3, 5)
    start = principal_start(matrix, 8, SCALE, torch.Generator(), is_subtracted=False)
    assert (start.a.shape, start.b.shape) == ((8, 5), (3, 8))
    torch.testing.assert_close(SCALE * start.b @ start.a, matrix, atol=1e-5, rtol=1e-5)


def test_only_a_start_that_is_not_subtracted_changes_the_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not default_start(nn.Linear(4, 3), 2, generator).changes_weight
    matrix = torch.randn(4, 3)
    for is_subtracted in (True, False):
        start = principal_start(matrix, 2, 1.0, generator, is_subtracted=is_subtracted)
        assert start.changes_weight is not is_subtracted


@pytest.mark.parametrize("type", ["lora", "rslora", "dora"])
def test_pissa_changes_nothing_at_step_0_and_starts_at_the_principal_part(type: str) -> None:
    model = make_llama()
    applied = apply_lora(model, method(type=type, init="pissa"), seed=0)
    torch.testing.assert_close(logits_of(model), logits_of(make_llama()), atol=1e-5, rtol=1e-5)
    layer = applied.layers["model.layers.0.mlp.down_proj"]
    weight = make_llama().model.layers[0].mlp.down_proj.weight
    strengths = torch.linalg.svdvals(weight)
    product = layer.scale * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(torch.linalg.svdvals(product)[:RANK], strengths[:RANK])


@pytest.mark.parametrize("type", ["lora", "rslora", "dora"])
def test_a_trained_pissa_adapter_is_saved_as_a_plain_one(tmp_path: Path, type: str) -> None:
    model = make_llama()
    applied = apply_lora(model, method(type=type, init="pissa"), seed=0)
    randomize_adapters(model)
    applied.publish()
    applied.save(tmp_path, base="some/base")
    theirs = peft.PeftModel.from_pretrained(make_llama(), tmp_path)
    torch.testing.assert_close(logits_of(theirs), logits_of(model), atol=1e-4, rtol=1e-4)
    again = make_llama()
    load_adapter(again, tmp_path)
    torch.testing.assert_close(logits_of(again), logits_of(model), atol=1e-4, rtol=1e-4)
    with adapters_off(model):
        assert logits_of(model).equal(logits_of(make_llama()))


def loftq(type: str, folder: Path) -> tuple[Any, AppliedLora]:
    wide_llama().save_pretrained(folder)
    model = quantised_llama()
    part = method(type=type, init="loftq", rank=16, alpha=32.0)
    return model, apply_lora(model, part, seed=0, original=Originals(folder).weight)


@pytest.mark.parametrize("type", ["lora", "dora"])
def test_loftq_starts_nearer_to_the_original_than_the_quantised_base(
    tmp_path: Path, type: str
) -> None:
    model, _ = loftq(type, tmp_path)
    whole = logits_of(wide_llama())
    started = (logits_of(model) - whole).norm()
    with adapters_off(model):
        assert logits_of(model).equal(logits_of(quantised_llama()))
    assert started < 0.75 * (logits_of(quantised_llama()) - whole).norm()


def test_a_trained_loftq_adapter_is_read_back_onto_the_quantised_base(tmp_path: Path) -> None:
    model, applied = loftq("lora", tmp_path / "base")
    randomize_adapters(model)
    (tmp_path / "adapter").mkdir()
    applied.save(tmp_path / "adapter", base="some/base")
    again = quantised_llama()
    load_adapter(again, tmp_path / "adapter")
    assert logits_of(again).equal(logits_of(model))
