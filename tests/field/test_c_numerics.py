"""Public reports on training numerics, part (c): each report's minimal input, and what is right."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.fakes.tiny_llama import (
    language_model,
    make_examples,
    make_llama,
    randomize_adapters,
)
from tests.fakes.tiny_run import make_model_folder, make_rows, make_run
from tunesmith.core import hardware
from tunesmith.core.errors import RecipeError
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import read_json
from tunesmith.data.collate import to_batch
from tunesmith.data.example import Example
from tunesmith.data.pack import plan_steps
from tunesmith.evaluation.before_after import measure_loss
from tunesmith.methods.select import apply_method
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.share import Share
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.checkpoint import Progress, load_newest, save_checkpoint
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.optimizer import decay_of, make_optimizer
from tunesmith.training.schedule import count_warmup_steps
from tunesmith.training.step import train_step

METHODS = {"wrapped": LoraMethod(rank=4), "not wrapped": FullMethod()}


def test_b052_loss_and_gradient_are_normalised_once() -> None:
    rows = make_examples([24] * 8)
    losses: list[float] = []
    for part in METHODS.values():
        norms: list[float] = []
        for accumulation in (1, 2, 4):
            model = make_llama()
            method = apply_method(model, part, seed=0)
            optimizer = make_optimizer(method.trainable, TrainingPart(), learning_rate=1e-3)
            size = 8 // accumulation
            outcome = train_step(
                language_model(model),
                method,
                optimizer,
                [to_batch(rows[first : first + size], pad_id=0) for first in range(0, 8, size)],
                learning_rate=1e-3,
                max_gradient_norm=1.0,
            )
            losses.append(outcome.loss)
            norms.append(outcome.gradient_norm)
        assert min(norms) > 0
        assert norms == pytest.approx([norms[0]] * 3, rel=1e-3)
    assert len(losses) == 6
    assert losses == pytest.approx([losses[0]] * 6, abs=1e-4)


def test_b055_no_update_reaches_over_the_end_of_an_epoch() -> None:
    steps = plan_steps(
        [10] * 21, epochs=1, max_steps=6, tokens_per_step=80, micro_batch_tokens=10, seed=0
    )
    assert [len(step.micro_batches) for step in steps] == [8, 8, 5, 8, 8, 5]
    assert [step.epoch for step in steps][2::3] == [1.0, 2.0]
    seen = [row for step in steps for row in step.rows]
    assert all(seen.count(row) == 2 for row in range(21))
    assert len(seen) == 42


class Recorder(list[Example]):
    """Rows that remember in what order they were taken."""

    def __init__(self, rows: list[Example]) -> None:
        super().__init__(rows)
        self.taken: list[int] = []

    def __getitem__(self, index: Any) -> Any:
        self.taken.append(index)
        return super().__getitem__(index)


class Training:
    """One row a step on a tiny model with an adapter, which can be stopped and resumed."""

    def __init__(self, part: TrainingPart, *, dropout: float = 0.0, seed: int = 7) -> None:
        self.part = part
        self.rows = Recorder(make_examples([20] * 8))
        self.plan = plan_steps(
            [20] * 8, epochs=part.epochs, max_steps=part.max_steps, tokens_per_step=20,
            micro_batch_tokens=20, seed=seed,
        )  # fmt: skip
        self.model = make_llama()
        method = LoraMethod(rank=4, dropout=dropout)
        self.method = apply_method(self.model, method, seed=seed)
        assert part.learning_rate is not None
        self.rate = part.learning_rate
        self.optimizer = make_optimizer(self.method.trainable, part, learning_rate=self.rate)
        torch.manual_seed(seed)

    def go(self, *, first: int = 1, last: int | None = None) -> list[StepDone]:
        steps = train_steps(
            language_model(self.model, share_prefix=False), self.method, self.optimizer,
            self.rows, self.plan, self.part, peak_rate=self.rate, pad_id=0, first_step=first,
        )  # fmt: skip
        done: list[StepDone] = []
        for step in steps:
            done.append(step)
            if step.step == last:
                break
        return done

    def stop_and_resume(self, folder: Path, *, after: int, **settings: Any) -> Training:
        self.go(last=after)
        save_checkpoint(folder, Progress(step=after), self.method.trainable, self.optimizer)
        other = Training(self.part, **settings)
        assert load_newest(folder, other.method.trainable, other.optimizer) is not None
        return other


def test_b056_the_learning_rate_goes_on_where_it_was(tmp_path: Path) -> None:
    part = TrainingPart(max_steps=8, learning_rate=2e-4, schedule="linear", warmup=0)
    whole = [done.learning_rate for done in Training(part).go()]
    assert whole[0] == 2e-4
    resumed = Training(part).stop_and_resume(tmp_path, after=3).go(first=4)
    rates = [done.learning_rate for done in resumed]
    assert rates == pytest.approx([1.25e-4, 1e-4, 7.5e-5, 5e-5, 2.5e-5], abs=1e-12)
    assert rates == whole[3:]


def test_b056_with_cosine_and_warm_up_as_well(tmp_path: Path) -> None:
    part = TrainingPart(max_steps=8, learning_rate=2e-4, schedule="cosine", warmup=Share(0.25))
    whole = [done.learning_rate for done in Training(part).go()]
    assert max(whole) == 2e-4
    resumed = Training(part).stop_and_resume(tmp_path, after=3).go(first=4)
    assert [done.learning_rate for done in resumed] == whole[3:]
    assert len(set(whole[3:])) == 5


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_b058_a_resume_in_the_second_epoch_takes_the_rows_that_are_left(
    tmp_path: Path, dropout: float
) -> None:
    part = TrainingPart(epochs=3, learning_rate=1e-2)
    whole = Training(part, dropout=dropout)
    assert len(whole.go()) == 24
    stopped = Training(part, dropout=dropout)
    resumed = stopped.stop_and_resume(tmp_path, after=11, dropout=dropout)
    resumed.go(first=12)
    assert resumed.rows.taken == whole.rows.taken[11:]
    both = [*stopped.rows.taken, *resumed.rows.taken]
    assert all(both.count(row) == 3 for row in range(8))
    assert both[:8] != both[8:16]  # each epoch has its own order
    for name, value in resumed.method.trainable.items():
        assert value.equal(whole.method.trainable[name]), name


def test_b059_a_warm_up_longer_than_the_run_is_refused_with_the_rate_it_would_reach() -> None:
    with pytest.raises(RecipeError) as caught:
        count_warmup_steps(50, total_steps=6, peak=4e-4)
    told = str(caught.value)
    assert "50" in told
    assert "6" in told
    assert "4.8e-05" in told


@pytest.mark.parametrize("key", ["warmup_ratio", "warmup"])
def test_b059_a_ratio_above_one_is_refused_with_its_range(key: str) -> None:
    value = 1.2 if key == "warmup_ratio" else "120%"
    recipe = {"model": "m", "task": "chat", "data": {"train": "f"}, "training": {key: value}}
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe)
    told = str(caught.value)
    assert "training.warmup" in told
    assert key in told
    assert ("share" in told) or ("100%" in told)


def test_b061_adapters_on_a_16_bit_base_keep_small_updates_and_their_dtype(tmp_path: Path) -> None:
    model = make_llama(dtype=torch.bfloat16)
    method = apply_method(model, LoraMethod(rank=4), seed=0)
    name, factor = next(iter(method.trainable.items()))
    optimizer = make_optimizer(method.trainable, TrainingPart(), learning_rate=1e-3)
    with torch.no_grad():
        factor.fill_(1.0)
    factor.grad = torch.ones_like(factor)
    optimizer.param_groups[0]["lr"] = 1e-3
    optimizer.step()
    assert factor.dtype == torch.float32
    torch.testing.assert_close(factor, torch.full_like(factor, 0.999))  # bf16 would stay at 1
    method.save(tmp_path, base="tiny")
    saved = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    (stored,) = [value for key, value in saved.items() if key.endswith(name)]
    assert stored.equal(factor)


FORCE_INFINITY = """
import sys
import torch
import tunesmith.run.steps as steps
from tunesmith.run.process import main

original = steps.train_steps

def hooked(model, *arguments, **settings):
    for done in original(model, *arguments, **settings):
        yield done
        if done.step == 2:
            with torch.no_grad():
                model.decoder.embed_tokens.weight.fill_(float("inf"))

steps.train_steps = hooked
sys.exit(main([sys.argv[1]]))
"""


def test_b062_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    model = make_model_folder(tmp_path / "model")
    rows = make_rows(tmp_path / "rows.jsonl", 20)
    training = {"max_steps": 6, "checkpoint_every": 1}
    quiet = {"before": False, "after": False}
    run_dir = make_run(tmp_path / "run", model, rows, training=training, evaluation=quiet)
    script = [sys.executable, "-c", FORCE_INFINITY, str(run_dir.path)]
    assert subprocess.run(script, capture_output=True, check=False).returncode == 3
    events = list(read_events(run_dir.events_jsonl))
    (error,) = [event for event in events if event["type"] == "error"]
    (fault,) = error["faults"]
    assert (error["code"], error["exit_code"]) == ("not_finite", 3)
    assert fault["where"].startswith("step 3, rows ")
    assert ":" in fault["where"].removeprefix("step 3, rows ")  # the rows' own ids
    assert "nan" in fault["found"]
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2]
    state = run_dir.read_state()
    assert state is not None
    assert (state.status, state.error_code) == ("failed", "not_finite")
    newest = sorted(folder.name for folder in run_dir.checkpoints.iterdir())[-1]
    assert newest == "step-2"
    held = safetensors.torch.load_file(run_dir.checkpoints / newest / "trained.safetensors")
    assert all(bool(value.isfinite().all()) for value in held.values())


def test_b062_a_learning_rate_of_a_million_is_refused() -> None:
    training = {"learning_rate": 1e6}
    with pytest.raises(RecipeError, match="learning_rate"):
        load_recipe({"model": "m", "task": "chat", "data": {"train": "f"}, "training": training})


@pytest.mark.parametrize("optimizer_name", ["adamw", "adamw-8bit", "adafactor"])
def test_b064_decay_pulls_an_adapter_to_the_base_and_leaves_the_base_alone(
    optimizer_name: Any,
) -> None:
    model = make_llama()
    method = apply_method(model, LoraMethod(rank=4), seed=0)
    randomize_adapters(model)
    part = TrainingPart(weight_decay=0.1, optimizer=optimizer_name)
    trained = {id(value) for value in method.trainable.values()}
    before = {
        name: value.clone() for name, value in model.named_parameters() if id(value) not in trained
    }
    optimizer = make_optimizer(method.trainable, part, learning_rate=1e-3)
    norms: list[float] = [product_norm(model)]
    for _ in range(20):
        for value in method.trainable.values():
            value.grad = torch.zeros_like(value)
        optimizer.step()
        norms.append(product_norm(model))
    assert norms[0] > 0
    assert all(later < earlier for earlier, later in pairwise(norms))
    after = dict(model.named_parameters())
    assert len(before) > 10
    assert all(after[name].equal(value) for name, value in before.items())


def product_norm(model: Any) -> float:
    layer = model.model.layers[0].self_attn.q_proj
    return float((layer.lora_B.double() @ layer.lora_A.double()).detach().norm())


def test_b064_the_plan_says_what_decays_and_the_default_is_none() -> None:
    method = apply_method(make_llama(), FullMethod(), seed=0)
    lines = sum(value.numel() for value in method.trainable.values() if value.ndim < 2)
    total = sum(value.numel() for value in method.trainable.values())
    assert TrainingPart().weight_decay == 0
    assert decay_of(method.trainable, TrainingPart())["decayed_parameters"] == 0
    decayed = decay_of(method.trainable, TrainingPart(weight_decay=0.1))
    assert decayed["decayed_parameters"] == total - lines
    assert decayed["undecayed_parameters"] == lines > 0
    page = Path(__file__).parents[2].joinpath("docs/memory.md").read_text()
    assert "norms and biases" in page


@pytest.mark.slow
@pytest.mark.long
def test_b071_evaluation_keeps_no_logits() -> None:
    model = make_llama(
        vocab_size=49_152, hidden_size=32, num_hidden_layers=1, initializer_range=0.05
    )
    rows = make_examples([256] * 200)
    scored = language_model(model)
    measure_loss(scored, rows[:8])  # whatever is made once is made
    start_new_peak()
    before = hardware.resident_bytes()
    together = measure_loss(scored, rows)
    assert hardware.peak_resident_bytes() - before < 2**30
    assert torch.isfinite(torch.tensor(together.loss))
    assert 0 <= together.token_accuracy <= 1
    alone = [measure_loss(scored, [row]) for row in rows]
    loss = sum(one.loss_sum for one in alone) / sum(one.weight for one in alone)
    assert together.loss == pytest.approx(loss, abs=1e-5)
    assert together.correct == sum(one.correct for one in alone)


def start_new_peak() -> None:
    """Let the peak begin at what is resident now (Linux)."""
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5")


def test_the_plan_and_the_result_tell_what_memory_was_expected(tmp_path: Path) -> None:
    model = make_model_folder(tmp_path / "model")
    rows = make_rows(tmp_path / "rows.jsonl", 20)
    quiet = {"before": False, "after": False}
    run_dir = make_run(tmp_path / "run", model, rows, training={"max_steps": 2}, evaluation=quiet)
    script = [sys.executable, "-m", "tunesmith.run", str(run_dir.path)]
    assert subprocess.run(script, capture_output=True, check=False).returncode == 0
    plan, result = read_json(run_dir.plan_json), read_json(run_dir.result_json)
    parts = {name: size for name, size in plan["memory"].items() if name != "total"}
    assert plan["memory"]["total"] == sum(parts.values()) == result["planned_memory_bytes"]
    assert plan["trainable_dtype"] == "fp32"
    assert plan["optimizer"] == "adamw"
    assert result["planned_memory_bytes"] == pytest.approx(
        result["peak_memory_bytes"], rel=0.5
    )  # a tiny model: the process is all
