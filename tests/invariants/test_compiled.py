"""Layers that are compiled give the numbers of those that are not, up to rounding.

The compiler's front half is run here, forward and backward, and what it made is computed as it
stands (`aot_eager`); a whole run by compiled code is in tests/end_to_end/test_device.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Phi3Config, Phi3ForCausalLM

from tests.fakes import flash_kernels
from tests.fakes.tiny_llama import VOCABULARY, make_examples, make_llama, randomize_adapters
from tunesmith.core.errors import MachineError
from tunesmith.data.collate import to_batch
from tunesmith.methods.select import apply_method
from tunesmith.models import compiler, flash_attention
from tunesmith.models.hidden_states import compile_layers
from tunesmith.models.load import backbone, output_head
from tunesmith.models.quantise import quantise_model
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.training.loss import LanguageModel, summed_loss

LORA = LoraMethod(rank=4)
# Other numbers of rows and lengths than before must not start the compiler again and again.
BATCHES = [
    [30, 22, 160, 25],
    [40, 20, 15],
    [50, 70, 80, 90, 13],
    [99, 14, 13, 15, 30, 41],
]
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}


def make_phi3() -> Any:
    config = Phi3Config(**SIZES, intermediate_size=48, num_key_value_heads=2, sliding_window=20)
    return Phi3ForCausalLM(config)


def make_gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(**SIZES, n_positions=256, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    )


def make_quantised() -> Any:
    model = make_llama(hidden_size=64, intermediate_size=128)
    quantise_model(model, [model.lm_head], "nf4", double_quant=True, dtype=torch.float32)
    return model


def steps_of(make: Callable[[], Any], part: LoraMethod | FullMethod, *, compiled: bool) -> Any:
    """The losses of some batches, and the gradient of all of them."""
    torch.manual_seed(0)
    model = make().eval().requires_grad_(False)
    method = apply_method(model, part, seed=0)
    randomize_adapters(model)
    method.publish()
    if compiled:
        compile_layers(model)
    scored = LanguageModel(decoder=backbone(model), head=output_head(model))
    scored.decoder.train()
    losses: list[float] = []
    for seed, lengths in enumerate(BATCHES):
        rows = make_examples(lengths, seed=seed, shared_prefix=12)
        loss = summed_loss(scored, to_batch(rows, pad_id=0)).total
        loss.backward()
        losses.append(loss.item())
    return losses, {name: value.grad for name, value in method.trainable.items()}


@pytest.fixture
def front_half(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs that were made; a break in a layer makes two of one."""
    from torch._dynamo.backends.debugging import aot_eager

    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any, **settings: Any) -> Any:
        graphs.append(graph)
        return aot_eager(graph, inputs, **settings)

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield graphs
    torch._dynamo.reset()


def compare(make: Callable[[], Any], part: LoraMethod | FullMethod) -> None:
    plain, compiled = (steps_of(make, part, compiled=flag) for flag in (False, True))
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    assert compiled[1].keys() == plain[1].keys()
    for name, gradient in plain[1].items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(compiled[1][name], gradient, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        pytest.param(make_llama, LORA, id="lora", marks=pytest.mark.long),
        pytest.param(
            make_llama, LoraMethod(type="dora", rank=4), id="dora", marks=pytest.mark.long
        ),
        pytest.param(make_llama, FullMethod(), id="full", marks=pytest.mark.long),
        pytest.param(make_quantised, LORA, id="nf4", marks=pytest.mark.long),
        pytest.param(make_phi3, LORA, id="phi3", marks=pytest.mark.long),
        pytest.param(make_gpt2, FullMethod(), id="gpt2", marks=pytest.mark.long),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_a_compiled_layer_gives_the_gradient_of_a_plain_one(
    make: Callable[[], Any], part: LoraMethod | FullMethod, front_half: list[Any]
) -> None:
    compare(make, part)
    assert front_half


@pytest.mark.parametrize(
    ("make", "part"),
    [
        pytest.param(make_llama, LORA, id="lora"),
        pytest.param(make_phi3, FullMethod(), id="phi3", marks=pytest.mark.long),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_with_the_kernels_of_a_device_a_layer_is_one_graph_whatever_the_rows(
    make: Callable[[], Any],
    part: LoraMethod | FullMethod,
    front_half: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flash_kernels.provide()
    monkeypatch.setattr(flash_attention, "computes", lambda *_: True)
    compare(make, part)
    assert not torch._dynamo.utils.counters["graph_break"]
    # the first layer, whose input has no gradient, and the others
    assert len(front_half) <= 2 * 2


def test_without_a_compiler_the_run_is_refused_before_weights_are_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MachineError, match=r"a C\+\+ compiler \(no-such-compiler\)"):
        compiler.require_compiler(torch.device("cpu"))
    monkeypatch.setattr(compiler, "find_spec", lambda _: None)
    with pytest.raises(MachineError, match="triton"):
        compiler.require_compiler(torch.device("cuda"))
