"""The estimate and what follows from it: go on, compute layers again, warn, or refuse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes.tiny_llama import make_llama
from tests.fakes.tiny_run import make_model_folder, make_rows, make_run
from tunesmith.core import hardware
from tunesmith.core.errors import MachineError, RecipeError
from tunesmith.core.events import read_events
from tunesmith.core.run_dir import read_json
from tunesmith.data.pack import StepPlan, plan_steps
from tunesmith.methods.base import count_trainable
from tunesmith.methods.select import apply_method
from tunesmith.models.device import CPU
from tunesmith.models.facts import ModelFacts, read_facts
from tunesmith.recipe.load import load_recipe
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.strategy import DdpStrategy, DeepSpeedStrategy, FsdpStrategy, SingleStrategy
from tunesmith.training.memory import (
    MemoryAsk,
    _kept_keys,
    adapter_values,
    estimate_memory,
    offload_bytes,
    whole_values,
)
from tunesmith.training.memory_decision import MemoryDecision, decide_memory, require_machine
from tunesmith.training.spread import LIVE_VALUES, spread_of
from tunesmith.training.strategies.ranks import Ranks

LENGTHS = [300] * 40
PROCESS = 500 * 10**6
SMALL = ModelFacts(
    architecture="LlamaForCausalLM", parameters=134_515_008, layers=30, hidden=576, mlp=1536,
    heads=9, kv_heads=3, head_width=64, vocab=49_152, max_positions=8192, tied=True,
    logit_scale=1.0, logit_softcap=None, eos_ids=(2,), bos_id=1, pad_id=2,
)  # fmt: skip


def decide(
    available: int,
    facts: ModelFacts = SMALL,
    ranks: int = 1,
    dtype_bytes: int = 4,
    held_out: Sequence[int] = (),
    micro_batch_tokens: int = 2048,
    device: torch.device = CPU,
    **parts: Any,
) -> MemoryDecision:
    recipe = {"model": "m", "task": "chat", "data": {"train": "f"}, "method": "lora", **parts}
    plan = plan_steps(
        LENGTHS,
        epochs=1,
        max_steps=None,
        tokens_per_step=8192,
        micro_batch_tokens=micro_batch_tokens,
        seed=0,
    )
    return decide_memory(
        load_recipe(recipe).recipe, facts, plan, LENGTHS,
        dtype_bytes=dtype_bytes, process_bytes=PROCESS, available_bytes=available,
        held_out=held_out, device=device,
        num_ranks=ranks, ranks_here=ranks,
    )  # fmt: skip


def test_ranks_decide_by_the_one_that_has_least(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"model": "m", "task": "chat", "data": {"train": "f"}, "method": "lora"}
    recipe = load_recipe(given).recipe
    plan = (StepPlan(1, 1.0, (tuple(range(6)),)),)
    monkeypatch.setattr(hardware, "available_memory_bytes", lambda **_: 64 * 10**9)

    def decided() -> MemoryDecision:
        return require_machine(recipe, SMALL, plan, LENGTHS, torch.float32)

    assert not decided().recompute
    monkeypatch.setattr(Ranks, "everybody", lambda _, own: [own, 2 * 10**9])
    assert decided().recompute


def test_there_is_room_so_nothing_changes() -> None:
    decision = decide(64 * 10**9)
    assert not decision.recompute
    assert decision.warning is None


def test_auto_computes_layers_again_only_where_the_run_would_not_fit_otherwise() -> None:
    needed = decide(64 * 10**9).estimate(adapter_values(SMALL, 16)).total
    decision = decide(needed - PROCESS - 10**8)
    assert decision.recompute
    assert decision.warning is None
    kept = decide(needed - PROCESS - 10**8, training={"activation_checkpointing": False})
    assert not kept.recompute
    assert "halved" in str(kept.warning)


def test_what_cannot_fit_is_refused_with_its_parts_and_what_would_fit() -> None:
    with pytest.raises(MachineError) as caught:
        decide(10**9, method="full", training={"activation_checkpointing": False})
    (fault,) = caught.value.faults
    assert caught.value.exit_code == 2
    for word in ("optimizer", "gradients", "weights", "1,500,000,000 bytes"):
        assert word in fault.found
    assert "use method: lora" in fault.fix
    # What is offered is not refused.
    decide(10**9, method="lora")


def test_a_machine_that_is_too_small_for_the_base_alone_is_told_so() -> None:
    huge = replace(SMALL, parameters=10**11)
    with pytest.raises(MachineError, match="smaller model"):
        decide(10**9, huge)


def test_the_closed_form_counts_what_an_adapter_trains(tmp_path: Path) -> None:
    model = make_llama()
    model.save_pretrained(tmp_path)
    facts = read_facts(tmp_path)
    method = apply_method(model, LoraMethod(rank=4), seed=0)
    assert adapter_values(facts, 4) == count_trainable(method)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("names", [("lm_head",), ("embed_tokens", "lm_head"), ("norm",)])
def test_embedding_and_head_count_once_where_they_are_one(tied: bool, names: Any) -> None:
    facts = replace(SMALL, tied=tied)
    matrices = 0 if names == ("norm",) else 1 if tied else len(names)
    assert whole_values(facts, names) == matrices * facts.vocab * facts.hidden


def ask(**changes: Any) -> MemoryAsk:
    values: dict[str, Any] = {
        "facts": SMALL, "dtype_bytes": 2, "trainable": SMALL.parameters, "rank": 0,
        "keeps_outputs": False, "dropout": False, "optimizer": "adamw", "tokens": 1706,
        "longest": 300,
        "packed": True, "recompute": False, "process_bytes": PROCESS,
    }  # fmt: skip
    return MemoryAsk(**{**values, **changes})


def test_each_part_follows_its_cause() -> None:
    whole = estimate_memory(ask())
    assert whole.masters == whole.gradients == 4 * SMALL.parameters
    assert whole.optimizer == 8 * SMALL.parameters
    assert whole.weights == 2 * SMALL.parameters
    assert estimate_memory(ask(dtype_bytes=4)).masters == 0
    assert estimate_memory(ask(optimizer="adamw-8bit")).optimizer < 0.26 * whole.optimizer
    again = estimate_memory(ask(recompute=True))
    assert again.activations < whole.activations / 10
    assert estimate_memory(ask(keeps_outputs=True)).activations > whole.activations
    assert estimate_memory(ask(dropout=True)).activations > whole.activations
    assert estimate_memory(ask(packed=False)).activations > whole.activations
    head = SMALL.vocab * SMALL.hidden
    quantised = estimate_memory(ask(base="nf4")).weights - 2 * head
    assert 0.5 < quantised / (SMALL.parameters - head) < 0.53
    assert estimate_memory(ask(base="nf4", double_quant=False)).weights > quantised + 2 * head


def test_kernels_of_a_gpu_keep_no_probabilities_and_take_more_logits_at_once() -> None:
    bf16 = ask(dtype_bytes=2, rank=8)
    in_tiles, by_kernels = estimate_memory(bf16), estimate_memory(replace(bf16, on_gpu=True))
    # in tiles the probabilities of some keys a query, by kernels a normalizer: 2 bytes and 4
    kept = SMALL.layers * bf16.tokens * SMALL.heads
    expected = kept * (2 * _kept_keys(bf16.longest) - 4)
    assert in_tiles.activations - by_kernels.activations == pytest.approx(expected)
    assert by_kernels.working - in_tiles.working == 2 * (256 - 32) * 2**20
    in_fp32 = ask(dtype_bytes=4, rank=8)
    assert (
        estimate_memory(replace(in_fp32, on_gpu=True)).activations
        == estimate_memory(in_fp32).activations
    )
    assert decide(64 * 10**9, device=torch.device("cuda")).ask.on_gpu


def test_answers_need_copies_and_a_cache_as_far_as_a_step_has_not_had_as_much() -> None:
    asked: Any = {"dtype_bytes": 2, "micro_batch_tokens": 600, "task": "translation"}
    trainable = adapter_values(SMALL, 16)

    def answers(**changes: Any) -> int:
        return (
            decide(64 * 10**9, **{"held_out": [300] * 40, **asked, **changes})
            .estimate(trainable)
            .answers
        )

    room = 19 * (300 + 128) * 30 * 2 * 192 * 4  # 19 rows fit into 8,192 tokens
    copies = 4 * SMALL.parameters
    less = decide(64 * 10**9, **asked).estimate(trainable)
    had = less.gradients + less.activations + less.working
    read = 19 * 300 * 4 * (2 * SMALL.mlp + 4 * SMALL.hidden)
    assert answers() == max(0, copies + room + read - had) > 0
    assert answers(held_out=[]) == 0
    assert answers(evaluation={"before": False, "after": False}) == 0
    assert answers(task={"type": "classification"}) == 0  # a head writes nothing
    assert answers(dtype_bytes=4) < answers()


def test_answers_in_16_bits_are_no_reason_to_refuse_a_run_or_to_compute_layers_again() -> None:
    asked: Any = {"dtype_bytes": 2, "micro_batch_tokens": 600, "task": "translation"}
    needed = decide(64 * 10**9, **asked).estimate(adapter_values(SMALL, 16)).total
    decision = decide(needed - PROCESS, held_out=[300] * 40, **asked)
    assert not decision.recompute
    assert decision.warning is None
    assert decision.ask.answers is not None
    assert not decision.ask.answers.exact


@pytest.mark.parametrize(
    ("measured", "changes"),
    [
        (3_676_020_736, {"dtype_bytes": 4, "rank": 16}),
        (2_285_232_128, {"rank": 16}),
        (1_244_815_360, {"rank": 16, "recompute": True}),
        (4_223_557_632, {"dtype_bytes": 4, "tokens": 685}),
        (3_460_136_960, {"optimizer": "adamw-8bit", "tokens": 685}),
    ],
)
def test_it_is_within_15_percent_of_runs_of_the_real_model(
    measured: int, changes: dict[str, Any]
) -> None:
    trainable = adapter_values(SMALL, 16) if changes.get("rank") else SMALL.parameters
    planned = estimate_memory(
        ask(process_bytes=446 * 10**6, trainable=trainable, longest=343, **changes)
    )
    assert planned.total == pytest.approx(measured, rel=0.15)


ZERO = {stage: DeepSpeedStrategy(type="deepspeed", zero=stage) for stage in (1, 2, 3)}
FSDP = FsdpStrategy(type="fsdp")
HELD = ("weights", "masters", "trained", "gradients", "optimizer")


@pytest.mark.parametrize(
    ("strategy", "a_value"),
    [
        (DdpStrategy(), 2 + 4 + 4 + 8),
        (ZERO[1], 2 + 1 + 5 + 2),
        (ZERO[2], 2 + 1 + 1 + 2),
        (ZERO[3], 0.5 + 1 + 1 + 2),
    ],
    ids=["ddp", "zero-1", "zero-2", "zero-3"],
)
def test_four_ranks_hold_what_the_closed_form_of_zero_says(strategy: Any, a_value: float) -> None:
    estimate = estimate_memory(ask(spread=spread_of(strategy, 4)))
    held = sum(getattr(estimate, part) for part in HELD)
    assert held == pytest.approx(a_value * SMALL.parameters, rel=1e-6)
    alone = estimate_memory(ask())
    assert (estimate.activations, estimate.exchange > 0) == (alone.activations, True)


def test_gradients_of_a_step_of_one_micro_batch_come_as_its_activations_go() -> None:
    whole, ends = 4 * SMALL.parameters, 4 * SMALL.vocab * SMALL.hidden
    assert estimate_memory(ask()).gradients == whole
    few = estimate_memory(ask(later=0, tokens=300))
    assert few.gradients == whole - few.activations > ends
    many = estimate_memory(ask(later=0))
    assert many.activations > whole
    assert many.gradients == ends
    spread: Any = {"packed": False, "spread": spread_of(FSDP, 2)}
    assert estimate_memory(ask(**spread, later=0)).gradients == 0
    zero: Any = {"packed": False, "spread": spread_of(ZERO[3], 2)}  # which keeps room for them
    assert estimate_memory(ask(**zero, later=0)).gradients == 2 * SMALL.parameters


@pytest.mark.parametrize(("ranks", "later"), [(1, 1800), (2, 1800), (4, 900), (8, 0)])
def test_a_rank_has_gradients_already_where_it_computes_several_micro_batches_a_step(
    ranks: int, later: int
) -> None:
    strategy = {"strategy": {"type": "ddp", "processes": ranks}} if ranks > 1 else {}
    decided = decide(64 * 10**9, ranks=ranks, **strategy)
    assert (decided.ask.tokens, decided.ask.later) == (1800, later)


def test_the_larger_of_a_steps_first_and_later_micro_batches_counts() -> None:
    full: Any = {"tokens": 1000}
    first, both = estimate_memory(ask(**full, later=0)), estimate_memory(ask(**full))
    assert estimate_memory(ask(**full, later=10)) == first
    assert estimate_memory(ask(**full, later=1000)) == both
    assert both.total > estimate_memory(ask(**full, later=900)).total > first.total


def test_what_lies_on_a_disk_is_not_in_memory() -> None:
    disk = DeepSpeedStrategy(type="deepspeed", zero=3, offload="disk", offload_path="/x")
    asked: Any = {"packed": False, "dtype_bytes": 2}
    held = estimate_memory(ask(**asked, spread=spread_of(ZERO[3], 4)))
    moved = estimate_memory(ask(**asked, spread=spread_of(disk, 4)))
    assert moved.weights == moved.masters == moved.optimizer == 0
    assert moved.gradients == held.gradients > 0
    assert moved.exchange > held.exchange - 2 * LIVE_VALUES  # the buffers that are read into
    a_value = 2 + 4 + 4 + 8  # weights, fp32 copies, gradients, moments
    parts = offload_bytes(ask(**asked, spread=spread_of(disk, 4)))
    assert parts == pytest.approx(a_value * SMALL.parameters / 4, rel=1e-6)
    assert offload_bytes(ask(**asked, spread=spread_of(ZERO[3], 4))) == 0


def test_weights_that_are_spread_are_whole_again_to_evaluate_and_to_save() -> None:
    frozen = {"rank": 16, "trainable": adapter_values(SMALL, 16), "tokens": 64, "longest": 64}
    estimate = estimate_memory(ask(**frozen, packed=False, spread=spread_of(FSDP, 4)))
    whole = 2 * SMALL.parameters
    assert estimate.weights == pytest.approx(whole / 4, rel=1e-6)
    assert estimate.whole > 0
    assert estimate.total > estimate.process + whole + estimate.weights


MEASURED = read_json(Path(__file__).parents[3] / "benchmarks/results/zero.json")["cases"]


@pytest.mark.parametrize(
    "case", MEASURED, ids=lambda case: f"{case['method']}-{case['dtype']}-{case['strategy']}"
)
def test_the_plan_of_several_ranks_is_what_they_were_measured_to_hold(case: Any) -> None:
    """`benchmarks/zero.py` counts the bytes of the engines' own tensors on each rank."""
    strategies = {"single": SingleStrategy(), "ddp": DdpStrategy(), "fsdp": FSDP}
    strategies |= {f"zero-{stage}": strategy for stage, strategy in ZERO.items()}
    full = case["method"] == "full"
    facts = replace(SMALL, parameters=case["base_values"])
    estimate = estimate_memory(
        ask(
            facts=facts,
            dtype_bytes={"fp32": 4, "bf16": 2}[case["dtype"]],
            trainable=case["trained_values"],
            rank=0 if full else 16,
            spread=spread_of(strategies[case["strategy"]], case["ranks"]),
        )
    )
    planned = sum(getattr(estimate, part) for part in HELD)
    held = sum(size for part, size in case["held"].items() if part != "other")
    # DeepSpeed has up to three buffers of gradients on their way, of so many values there
    buffers = 3 * 4 * min(case["trained_values"], 400_000) * case["strategy"].startswith("zero")
    assert 0.94 * planned <= held <= 1.01 * planned + buffers


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_ranks_share_a_machine_and_are_refused_together(strategy: str) -> None:
    """Two ranks of a machine each have half of what it can give."""
    parts: Any = {"method": "full", "strategy": {"type": strategy, "processes": 2}}
    with pytest.raises(MachineError) as caught:
        decide(5 * 10**8, **parts, ranks=2)
    (fault,) = caught.value.faults
    assert "each of 2 processes on this machine needs at least" in fault.found
    assert "bytes for each" in fault.found
    decision = decide(64 * 10**9, **parts, ranks=2)
    assert decision.ranks_here == 2
    alone = decide(64 * 10**9, method="full").estimate(SMALL.parameters)
    of_one = decision.estimate(SMALL.parameters)
    assert (of_one.optimizer == alone.optimizer) == (strategy == "ddp")


def test_a_run_that_does_not_fit_in_whole_copies_is_told_what_spreads_them() -> None:
    parts: Any = {"method": "full", "training": {"activation_checkpointing": True}}
    needed = decide(64 * 10**9, **parts, strategy="ddp", ranks=8).estimate(SMALL.parameters).total
    with pytest.raises(MachineError, match=r"use strategy: \{type: deepspeed, zero: 2\}"):
        decide(int(0.7 * needed) - PROCESS, **parts, strategy="ddp", ranks=8)


NO_ROOM = """
import sys
import tunesmith.training.assemble as assemble
from tunesmith.core import hardware
from tunesmith.run.process import main

hardware.available_memory_bytes = lambda **_: 0

def load_base(*_):
    raise AssertionError("weights are loaded")

assemble.load_base = load_base
sys.exit(main([sys.argv[1]]))
"""


def test_a_run_that_cannot_fit_ends_before_weights_are_loaded(tmp_path: Path) -> None:
    model = make_model_folder(tmp_path / "model")
    run_dir = make_run(tmp_path / "run", model, make_rows(tmp_path / "rows.jsonl", 20))
    script = [sys.executable, "-c", NO_ROOM, str(run_dir.path)]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    (error,) = [one for one in read_events(run_dir.events_jsonl) if one["type"] == "error"]
    assert error["code"] == "memory"
    assert "the run needs at least" in error["faults"][0]["found"]


@pytest.mark.parametrize(
    ("key", "value", "ours"),
    [
        ("gradient_checkpointing", True, "training.activation_checkpointing"),
        ("optim", "paged_adamw_8bit", "training.optimizer"),
    ],
)
def test_the_words_of_other_tools_are_told_ours(key: str, value: object, ours: str) -> None:
    recipe = {"model": "m", "task": "chat", "data": {"train": "f"}, "training": {key: value}}
    with pytest.raises(RecipeError, match=ours):
        load_recipe(recipe)
