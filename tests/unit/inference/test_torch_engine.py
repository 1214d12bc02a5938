from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.tiny import make_tokenizer
from tests.fakes.tiny_llama import VOCABULARY, make_llama
from tunesmith.core.errors import UserError
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.inference.engine import Generated
from tunesmith.inference.torch_engine import TorchEngine


@pytest.fixture(name="tokenizer")
def tokenizer_fixture(tmp_path: Path) -> Tokenizer:
    return load_tokenizer(make_tokenizer(tmp_path / "tokenizer"))


def make_prompts(count: int, *, shared: int = 0, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    prefix = [draw.randrange(3, VOCABULARY) for _ in range(shared)]
    return [
        prefix + [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(1, 30))]
        for _ in range(count)
    ]


def engine_that_stops(model: Any, tokenizer: Tokenizer, *stops: int, **options: Any) -> TorchEngine:
    model.generation_config.eos_token_id = list(stops)
    return TorchEngine(model, tokenizer, **options)


@pytest.mark.parametrize("shared", [0, 12])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_is_the_same_alone_and_in_a_batch(
    tokenizer: Tokenizer, shared: int, temperature: float
) -> None:
    prompts = make_prompts(24, shared=shared)
    options: dict[str, Any] = {"max_new_tokens": 20, "temperature": temperature, "seed": 7}
    stops = tuple(range(20, 24))  # so many that rows end at different steps
    together = engine_that_stops(make_llama(), tokenizer, *stops)
    alone = engine_that_stops(make_llama(), tokenizer, *stops, batch_tokens=1)
    answers = together.generate(prompts, **options)
    assert answers == alone.generate(prompts, **options)
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}


def test_greedy_answers_are_those_of_the_library(tokenizer: Tokenizer) -> None:
    model = make_llama()
    prompts = make_prompts(6, shared=9)
    answers = engine_that_stops(model, tokenizer).generate(prompts, max_new_tokens=12)
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = torch.tensor([prompt])
        with torch.no_grad():
            for _ in range(12):
                logits = model(input_ids=tokens, use_cache=False).logits[:, -1]
                tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], dim=1)
        assert list(answer.tokens) == tokens[0, len(prompt) :].tolist()


def test_a_row_ends_at_any_stop_token_and_does_not_hold_it(tokenizer: Tokenizer) -> None:
    free = engine_that_stops(make_llama(), tokenizer).generate([[5, 6, 7]], max_new_tokens=9)[0]
    stop = free.tokens[4]
    engine = engine_that_stops(make_llama(), tokenizer, 3, stop)
    first = free.tokens.index(stop)
    assert engine.generate([[5, 6, 7]], max_new_tokens=9) == [
        Generated(free.tokens[:first], "stop")
    ]


def test_the_templates_end_of_turn_stops_even_when_the_model_names_none(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_tokenizer(tmp_path / "t", "added-turn-end"))
    turn_end = tokenizer.backend_tokenizer.token_to_id("<turn_end>")
    engine = engine_that_stops(make_llama(vocab_size=400), tokenizer)
    assert {turn_end, tokenizer.eos_token_id} <= engine._stop_ids


def test_answers_come_in_the_order_of_the_prompts(tokenizer: Tokenizer) -> None:
    engine = engine_that_stops(make_llama(), tokenizer)
    prompts = make_prompts(9)
    answers = engine.generate(prompts, max_new_tokens=4)
    assert list(reversed(engine.generate(prompts[::-1], max_new_tokens=4))) == answers


def test_no_prompts_give_no_answers(tokenizer: Tokenizer) -> None:
    assert engine_that_stops(make_llama(), tokenizer).generate([], max_new_tokens=4) == []


def test_an_answer_never_goes_beyond_the_models_positions(tokenizer: Tokenizer) -> None:
    engine = engine_that_stops(make_llama(max_position_embeddings=32), tokenizer)
    answer = engine.generate([[5] * 30], max_new_tokens=10)[0]
    assert answer == Generated(answer.tokens, "length")
    assert len(answer.tokens) == 2


@pytest.mark.parametrize("length", [0, 32, 40])
def test_a_prompt_that_cannot_be_answered_is_refused(tokenizer: Tokenizer, length: int) -> None:
    engine = engine_that_stops(make_llama(max_position_embeddings=32), tokenizer)
    with pytest.raises(UserError, match=f"a prompt of {length} tokens"):
        engine.generate([[5] * length], max_new_tokens=10)


def test_the_seed_decides_what_is_drawn(tokenizer: Tokenizer) -> None:
    engine = engine_that_stops(make_llama(), tokenizer)
    prompts = [[5, 6, 7]] * 2
    first = engine.generate(prompts, max_new_tokens=20, temperature=1.0, seed=1)
    assert first == engine.generate(prompts, max_new_tokens=20, temperature=1.0, seed=1)
    assert first != engine.generate(prompts, max_new_tokens=20, temperature=1.0, seed=2)
    assert first[0] != first[1], "equal prompts draw for themselves"


def test_drawing_does_not_touch_the_global_random_state(tokenizer: Tokenizer) -> None:
    engine = engine_that_stops(make_llama(), tokenizer)
    before = torch.get_rng_state()
    engine.generate([[5]], max_new_tokens=5, temperature=1.0)
    assert torch.get_rng_state().equal(before)


def test_the_model_is_left_in_the_mode_it_was_in(tokenizer: Tokenizer) -> None:
    model = make_llama(attention_dropout=0.5)
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    engine = engine_that_stops(model, tokenizer)
    assert engine.generate([[5, 6]], max_new_tokens=8) == engine.generate(
        [[5, 6]], max_new_tokens=8
    )
    assert [module.training for module in model.modules()] == modes


def test_a_model_can_be_trained_after_it_has_answered(tokenizer: Tokenizer) -> None:
    model = make_llama()
    model.requires_grad_(True)
    engine_that_stops(model, tokenizer).generate([[5, 6]], max_new_tokens=4)
    model(input_ids=torch.tensor([[5, 6]]), use_cache=False).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_stream_is_the_text_of_the_answer(tokenizer: Tokenizer) -> None:
    engine = engine_that_stops(make_llama(), tokenizer)
    *pieces, answer = engine.stream([5, 6, 7], max_new_tokens=40, temperature=1.0)
    assert isinstance(answer, Generated)
    assert "".join(str(piece) for piece in pieces) == engine.decode(answer.tokens)
    assert [answer] == engine.generate([[5, 6, 7]], max_new_tokens=40, temperature=1.0)


def test_the_cache_may_outgrow_its_room(tokenizer: Tokenizer) -> None:
    model = make_llama()
    answer = engine_that_stops(model, tokenizer).generate([[5, 6]], max_new_tokens=200)[0]
    tokens = torch.tensor([[5, 6, *answer.tokens]])
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
    assert logits[0, 1:-1].argmax(-1).tolist() == list(answer.tokens)


def test_sliding_windows_keep_the_librarys_cache(tokenizer: Tokenizer) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=8, initializer_range=0.2,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    prompts = make_prompts(8, shared=10)
    together = engine_that_stops(model, tokenizer).generate(prompts, max_new_tokens=12)
    alone = engine_that_stops(model, tokenizer, batch_tokens=1)
    assert together == alone.generate(prompts, max_new_tokens=12)
