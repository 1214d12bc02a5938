from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.architectures import DECODERS, save_decoder
from tests.fakes.tiny_llama import language_model, make_llama
from tunesmith.core.errors import RunError
from tunesmith.data.example import Example
from tunesmith.evaluation.choices import log_likelihoods
from tunesmith.models import packed_llama
from tunesmith.models.facts import read_facts
from tunesmith.models.load import load_model
from tunesmith.training import loss
from tunesmith.training.row_loss import row_log_probs

# Per question: how many tokens the prompt has, and each of the candidates.
SHAPES = [(14, (1, 3, 2)), (30, (4, 9)), (12, (2, 2, 2, 2, 2)), (21, (1, 30)), (12, (6, 1))]


def make_questions(*, system: int = 10, times: int = 1) -> list[list[Example]]:
    """Make questions that begin with the same `system` tokens; candidates may begin alike, too."""
    vocabulary = 97
    generator = np.random.default_rng(0)
    common = generator.integers(3, vocabulary, system)
    questions: list[list[Example]] = []
    for number, (prompt_length, lengths) in enumerate(SHAPES * times):
        prompt = [*common, *generator.integers(3, vocabulary, prompt_length - system)]
        reply = generator.integers(3, vocabulary, max(lengths))
        questions.append([])
        for length in lengths:
            own = [*reply[: length - 1], *generator.integers(3, vocabulary, 1)]
            tokens = np.array([*prompt, *own], dtype=np.int32)
            weights = np.zeros(len(tokens), dtype=np.float32)
            weights[prompt_length:] = 1.0
            questions[-1].append(Example(f"rows:{number}", "rows", number, tokens, weights))
    return questions


def own_log_probs(model: Any, questions: Sequence[Sequence[Example]]) -> list[list[float]]:
    """Compute each candidate by itself with the library's own forward."""

    def of(example: Example) -> float:
        tokens = torch.from_numpy(example.tokens).long()
        logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1].float()
        found = logits.log_softmax(-1).gather(-1, tokens[1:, None])[:, 0]
        return float(found @ torch.from_numpy(example.weights[1:]))

    with torch.no_grad():
        return [[of(example) for example in question] for question in questions]


@pytest.mark.parametrize("name", DECODERS)
def test_they_are_the_models_own_alone_and_in_a_batch(tmp_path: Path, name: str) -> None:
    folder = save_decoder(tmp_path, name)
    model = load_model(folder, "fp32")
    scored = loss.language_model(model, read_facts(folder))
    questions = make_questions()
    expected = own_log_probs(model, questions)
    for max_tokens in (10_000, 200, 40):
        together = log_likelihoods(scored, questions, max_tokens=max_tokens)
        for one, own, question in zip(together, expected, questions, strict=True):
            np.testing.assert_allclose(one.log_probs, own, rtol=1e-4, atol=1e-4)
            assert one.tokens.tolist() == [example.supervised_tokens for example in question]
    for question, own in zip(questions, expected, strict=True):
        (alone,) = log_likelihoods(scored, [question])
        np.testing.assert_allclose(alone.log_probs, own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("system", [0, 3, 10])
def test_what_candidates_share_is_computed_once_without_changing_a_number(
    monkeypatch: pytest.MonkeyPatch, system: int
) -> None:
    llama = make_llama()
    questions = make_questions(system=system, times=5)  # several tiles of attention
    lines: list[int] = []
    run = packed_llama.run_packed

    def counting(decoder: Any, tokens_N: Any, positions_N: Any, *rest: Any, **more: Any) -> Any:
        lines.append(int(positions_N.count_nonzero()))
        return run(decoder, tokens_N, positions_N, *rest, **more)

    monkeypatch.setattr(packed_llama, "run_packed", counting)
    shared = log_likelihoods(language_model(llama), questions, max_tokens=10_000)
    plain = log_likelihoods(language_model(llama, share_prefix=False), questions, max_tokens=10_000)
    for one, other in zip(shared, plain, strict=True):
        np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-5, atol=1e-5)
    # No token is computed twice behind the same beginning, and none that nothing follows.
    nodes = {
        tuple(example.tokens[: end + 1].tolist())
        for question in questions
        for example in question
        for end in range(len(example.tokens) - 1)
    }
    at_position_0 = sum(len(node) == 1 for node in nodes)
    assert lines[0] == len(nodes) - at_position_0
    assert lines[1] > 1.8 * lines[0]


def test_where_memory_runs_out_smaller_batches_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    questions = make_questions()
    model = language_model(make_llama())
    expected = log_likelihoods(model, questions)
    sizes: list[int] = []

    def full(scored: Any, batch: Any, **more: Any) -> Any:
        sizes.append(len(batch.lengths_B))
        if sizes[-1] > 3:
            raise MemoryError
        return row_log_probs(scored, batch, **more)

    monkeypatch.setattr("tunesmith.evaluation.choices.row_log_probs", full)
    found = log_likelihoods(model, questions)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-5, atol=1e-5)
    assert sizes[0] == 14
    assert sum(size for size in sizes if size <= 3) == 14


def test_a_likelihood_that_is_no_number_names_the_row() -> None:
    llama = make_llama()
    llama.model.norm.weight.data[0] = float("nan")
    with pytest.raises(RunError, match="rows:0") as caught:
        log_likelihoods(language_model(llama), make_questions())
    assert caught.value.code == "loss_not_finite"


def test_the_model_keeps_its_mode() -> None:
    llama = make_llama()
    llama.train()
    log_likelihoods(language_model(llama), make_questions())
    assert llama.training
