from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import VOCABULARY, make_llama
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.inference import precision
from tunesmith.inference.torch_engine import TorchEngine


@pytest.fixture(name="tokenizer")
def tokenizer_fixture(tmp_path: Path) -> Tokenizer:
    return load_tokenizer(make_tokenizer(tmp_path / "tokenizer"))


def make_prompts(count: int) -> list[list[int]]:
    draw = random.Random(0)
    return [[draw.randrange(3, VOCABULARY) for _ in range(5 + row % 20)] for row in range(count)]


def answers_of(model: Any, tokenizer: Tokenizer, batch_tokens: int, told: list[str]) -> Any:
    engine = TorchEngine(model, tokenizer, batch_tokens=batch_tokens)
    with precision.exact_answers(model, told.append):
        return engine.generate(make_prompts(16), max_new_tokens=24)


def test_a_model_in_16_bits_answers_as_its_copy_in_32_bits_and_has_its_own_weights_again(
    tokenizer: Tokenizer,
) -> None:
    model, told = make_llama(dtype=torch.bfloat16), list[str]()
    places = {name: one.data_ptr() for name, one in model.named_parameters()}
    found = answers_of(model, tokenizer, 8192, told)
    assert {name: one.data_ptr() for name, one in model.named_parameters()} == places
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}
    assert found == answers_of(model, tokenizer, 1, told)
    assert found == TorchEngine(model.float(), tokenizer).generate(
        make_prompts(16), max_new_tokens=24
    )
    assert not told


def test_weights_are_their_own_again_when_the_work_fails() -> None:
    model = make_llama(dtype=torch.bfloat16)
    with pytest.raises(ZeroDivisionError), precision.computing_in_fp32(model):
        _fail(model)
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}


def test_without_room_answers_are_computed_in_16_bits_and_it_is_told(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "available_memory_bytes", lambda: 1000)
    model, told = make_llama(dtype=torch.bfloat16), list[str]()
    plain = TorchEngine(model, tokenizer).generate(make_prompts(16), max_new_tokens=24)
    assert answers_of(model, tokenizer, 8192, told) == plain
    assert told == [
        "answers are computed in 16 bits: fp32, in which an answer is the same in any batch, "
        "has no room"
    ]


def _fail(model: Any) -> None:
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    raise ZeroDivisionError
