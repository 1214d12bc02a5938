"""Reports about masks and labels: what the length limit, the batch and the step make of rows.

A label of -100 is a target of weight 0 here. There is no switch for packing (B046): micro-batches
of one row and of many stand for its two sides.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.tiny_llama import language_model, make_llama
from tests.field.doors import (
    Capsys,
    check,
    command,
    examples_of,
    lay,
    messages_of,
    pair,
    samples_in,
    write_rows,
)
from tunesmith.cli import looked_at
from tunesmith.core.errors import RecipeError
from tunesmith.data.account import data_warnings
from tunesmith.data.collate import to_batch
from tunesmith.data.example import Example
from tunesmith.data.pack import plan_steps
from tunesmith.data.pipeline import RunData
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.render import chat_prompt
from tunesmith.evaluation.before_after import measure_loss
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.select import apply_method
from tunesmith.models.hidden_states import hidden_states
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.method import FullMethod
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.loss import LanguageModel, summed_loss
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.step import StepOutcome, train_step


def model_for(tokenizer: TokenizerSource) -> Any:
    return make_llama(vocab_size=len(tokenizer.tokenizer))


class Learner:
    """A tiny model that is trained in full."""

    def __init__(self, model: Any) -> None:
        self.method: AppliedMethod = apply_method(model, FullMethod(), seed=0)
        self.optimizer = make_optimizer(self.method.trainable, TrainingPart(), learning_rate=1e-2)
        self.scored: LanguageModel = language_model(model)

    def step(self, *micro_batches: list[Example]) -> StepOutcome:
        batches = [to_batch(rows, pad_id=0) for rows in micro_batches]
        return train_step(
            self.scored, self.method, self.optimizer, batches,
            learning_rate=1e-2, max_gradient_norm=1.0,
        )  # fmt: skip

    def is_finite(self) -> bool:
        return all(bool(value.isfinite().all()) for value in self.method.trainable.values())


def test_b037_a_row_whose_reply_was_cut_off_counts_for_nothing(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    cut_off, normal = pair("why " * 100, "because"), pair("Name a colour", "teal")
    limits = {"max_length": 64, "overflow": "truncate"}
    both = write_rows(tmp_path / "both.jsonl", cut_off, normal)
    alone = write_rows(tmp_path / "alone.jsonl", normal)
    data = lay(both, chatml, validation=str(both), **limits)
    other = lay(alone, chatml, validation=str(alone), **limits)
    for side in (data.train_side, data.validation_side):
        assert side.counts().rows_without_supervised_tokens == 1
    reasons = data.dropped_reasons()
    assert reasons["no supervised token"] == 2  # one on each side
    assert "2 rows are left out (listed in dropped.jsonl)" in data_warnings(data, "dropped.jsonl")
    losses = [losses_of(one, chatml) for one in (data, other)]
    assert all(math.isfinite(loss) for loss in losses[0])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def losses_of(data: RunData, tokenizer: TokenizerSource) -> tuple[float, float]:
    """Return the loss of a step on the training side, and that of the held-out side."""
    learner = Learner(model_for(tokenizer))
    held_out = measure_loss(learner.scored, data.validation).loss
    step = learner.step(*([row] for row in data.train))
    assert learner.is_finite()
    return step.loss, held_out


def test_b037_a_batch_without_any_target_adds_nothing_to_the_step(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", pair("why?", "because"), pair("colour?", "teal"))
    first, second = examples_of(rows, chatml)
    silent = Example(first.row_id, first.file, first.line, first.tokens, first.weights * 0)
    nothing = summed_loss(language_model(model_for(chatml)), to_batch([silent], pad_id=0))
    assert (nothing.total.item(), nothing.weight, nothing.tokens) == (0.0, 0.0, 0)
    with_silent, without = Learner(model_for(chatml)), Learner(model_for(chatml))
    outcome = with_silent.step([silent], [second])
    assert outcome.loss == pytest.approx(without.step([second]).loss, abs=1e-6)
    assert with_silent.is_finite()
    for name, value in with_silent.method.trainable.items():
        torch.testing.assert_close(value, without.method.trainable[name], atol=1e-6, rtol=0)


QUESTIONS = ("Sea?", "Sky at noon?", "What colour is it?", "And the wall over there?")


def test_b038_the_end_is_a_target_by_its_place_though_padding_is_the_same_token(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    eos, pad = chatml.tokenizer.eos_token_id, chatml.tokenizer.pad_token_id
    assert eos == pad
    rows = examples_of(teal_rows(tmp_path), chatml)
    assert pad is not None
    batch = to_batch(rows, pad_id=pad)
    for row, example in enumerate(rows):
        end = int(np.flatnonzero(example.weights)[-1])
        assert batch.targets_BT[row, end - 1] == eos
        assert batch.weights_BT[row, end - 1] == 1
        assert not batch.weights_BT[row, end:].any()
        assert batch.lengths_B[row] == len(example.tokens) > end


def test_b038_a_model_that_learned_its_rows_ends_its_answers(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    data = lay(teal_rows(tmp_path), chatml, validation=str(teal_rows(tmp_path)))
    model = model_for(chatml)
    learner = Learner(model)
    losses = (learner.step(list(data.train)).loss for _ in range(300))
    assert any(loss < 0.05 for loss in losses)
    asked = [messages_of(sample)[:1] for sample in samples_in(data)]
    prompts = [chat_prompt(messages, chatml.tokenizer) for messages in asked]
    num_reply = int(np.count_nonzero(data.train[0].weights)) - 1
    engine = TorchEngine(model, chatml.tokenizer)
    for answer in engine.generate(prompts, max_new_tokens=num_reply + 2):
        assert answer.finish_reason == "stop"
        assert engine.decode(answer.tokens) == "teal"


def teal_rows(folder: Path) -> Path:
    return write_rows(folder / "teal.jsonl", *(pair(question, "teal") for question in QUESTIONS))


FIVE_ROWS = [pair(f"q{n}", "b" * (60 if n in (1, 3) else 5)) for n in range(5)]


@pytest.mark.parametrize("micro_batch_tokens", [1, 10_000], ids=["alone", "together"])
@pytest.mark.parametrize(("overflow", "num_rows"), [("truncate", 5), ("drop", 3)])
def test_b046_long_rows_are_cut_or_dropped_however_rows_are_batched(
    tmp_path: Path, chatml: TokenizerSource, overflow: str, num_rows: int, micro_batch_tokens: int
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", *FIVE_ROWS)
    data = lay(path, chatml, validation=str(path), max_length=64, overflow=overflow)
    (step,) = plan_steps(
        data.train.lengths.tolist(), epochs=1, max_steps=None, tokens_per_step=10_000,
        micro_batch_tokens=micro_batch_tokens, seed=0,
    )  # fmt: skip
    assert len(step.micro_batches) == (num_rows if micro_batch_tokens == 1 else 1)
    trained = [data.train[row] for row in step.rows]
    assert len(trained) == num_rows
    assert max(len(example.tokens) for example in trained) <= 64
    assert (max(map(len, (one.tokens for one in trained))) == 64) == (overflow == "truncate")


def test_b046_an_unknown_policy_is_answered_with_the_known_ones(
    tmp_path: Path, capsys: Capsys
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", *FIVE_ROWS)
    recipe = {"model": "m", "task": "chat", "data": {"train": str(path), "overflow": "shorten"}}
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    outcome = check(capsys, path, "--overflow", "shorten")
    assert outcome.exit_code == 2
    for told in (str(caught.value), outcome.said):
        for words in ("overflow", "shorten", "error", "drop", "truncate", "chunk"):
            assert words in told


def test_b047_documents_side_by_side_do_not_see_each_other(
    tmp_path: Path, chatml: TokenizerSource
) -> None:
    texts = ("The code is 7.", "The code is 9.", "The crate is 7.")
    path = write_rows(tmp_path / "texts.jsonl", *({"text": text} for text in texts))
    first, second, changed = examples_of(path, chatml, task="completion")
    model = model_for(chatml)
    alone = model(input_ids=torch.tensor(second.tokens[None].astype(np.int64))).logits[0]
    for other in (first, changed):
        together = logits_of_last(model, [other, second])
        torch.testing.assert_close(together, alone[-len(together) :], atol=1e-4, rtol=0)


@pytest.mark.parametrize("share_prefix", [False, True])
def test_b047_the_first_token_of_a_document_is_no_target(
    tmp_path: Path, chatml: TokenizerSource, share_prefix: bool
) -> None:
    path = write_rows(tmp_path / "texts.jsonl", {"text": "The code is 7."}, {"text": "No, 9."})
    rows = examples_of(path, chatml, task="completion")
    batch = to_batch(rows, pad_id=0)
    for row, example in enumerate(rows):
        last = len(example.tokens) - 1
        assert not batch.weights_BT[row, last:].any()
        assert batch.targets_BT[row, :last].tolist() == example.tokens[1:].tolist()
    model = language_model(model_for(chatml), share_prefix=share_prefix)
    together = summed_loss(model, batch).total.item()
    alone = sum(summed_loss(model, to_batch([row], pad_id=0)).total.item() for row in rows)
    assert together == pytest.approx(alone, rel=1e-5)


def logits_of_last(model: Any, rows: list[Example]) -> torch.Tensor:
    """Return the logits of the last row at all places behind what the rows share."""
    batch = to_batch(rows, pad_id=0)
    asked_BT = torch.zeros_like(batch.tokens_BT, dtype=torch.bool)
    asked_BT[-1, 9 : len(rows[-1].tokens)] = True
    with torch.no_grad():
        hidden = hidden_states(model.model, batch.tokens_BT, batch.lengths_B, asked_BT)
        return model.lm_head(hidden)


@pytest.mark.parametrize(
    ("overflow", "limit", "sequences", "kept", "lost"),
    [
        ("chunk", 32, 200, 5000, 0),
        ("chunk", 64, 100, 5000, 0),
        ("truncate", 32, 100, 3200, 1800),
        ("truncate", 64, 100, 5000, 0),
    ],
)
def test_b049_a_limit_means_the_same_in_every_plan_and_is_told(
    tmp_path: Path,
    capsys: Capsys,
    monkeypatch: pytest.MonkeyPatch,
    chatml: TokenizerSource,
    overflow: str,
    limit: int,
    sequences: int,
    kept: int,
    lost: int,
) -> None:
    # 49 bytes and the end token are 50 tokens.
    path = write_rows(tmp_path / "texts.jsonl", *({"text": f"{n:049}"} for n in range(100)))
    held_out = write_rows(tmp_path / "held-out.jsonl", {"text": "held out"})
    settings = {"overflow": overflow, "max_length": limit, "validation": str(held_out)}
    data = lay(path, chatml, task="completion", **settings)
    counts = data.train_side.counts()
    assert (counts.rows, counts.examples) == (100, sequences)
    repeated = sequences - 100  # each later chunk begins with the token before it
    assert counts.tokens == kept + repeated
    assert counts.lost_tokens == lost
    monkeypatch.setattr(looked_at, "model_folder", lambda _: Path(chatml.folder))
    words = [f"--overflow={overflow}", f"--max-length={limit}", f"--validation={held_out}"]
    outcome = command(capsys, "data", "stats", str(path), *words)
    assert outcome.exit_code == 0
    assert f"rows that are too long: {overflow}" in outcome.said
    assert f"{kept - 100:,} tokens are trained, of 5,000 in 100 rows" in outcome.said
    assert ("trained tokens lost" in outcome.said) == (lost > 0)
