"""Runs on CUDA devices, on machines that have one: like those of the CPU, and what only a GPU has.

`TUNESMITH_GPU_TESTS=cpu pytest tests/gpu` carries the same tests out on the CPU, which shows that
the tests themselves work; `gpu` in their names is then the CPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import tunesmith.training.objective as objective_module
from tests.fakes.rank_training import Case, Trainer
from tests.fakes.tiny_run import (
    TIMEOUT_S,
    assert_same_run,
    logs_of,
    losses_of,
    make_model_folder,
    make_rows,
    make_run,
    start_run,
    wait_for_step,
    weights_of,
)
from tunesmith.core.rank_place import RankPlace
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.inference.loading import load
from tunesmith.models.device import CPU, give_back_unused, peak_of, taken_bytes
from tunesmith.models.linear import device_of
from tunesmith.training.strategies.ranks import ONE_RANK, join

HAS_GPU = torch.cuda.is_available()
GPU = torch.device("cuda", 0) if HAS_GPU else CPU
# A process for each GPU that there is.
PROCESSES = torch.cuda.device_count() if HAS_GPU else 2
pytestmark = pytest.mark.skipif(
    not HAS_GPU and os.environ.get("TUNESMITH_GPU_TESTS") != "cpu", reason="no CUDA device"
)
STEPS = {"max_steps": 6, "checkpoint_every": 2}
LORA = {"type": "lora", "rank": 4}


@pytest.fixture(autouse=True)
def engines_find_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if HAS_GPU:
        monkeypatch.delenv("DS_ACCELERATOR", raising=False)  # which the other tests set


def run_on(folder: Path, device: torch.device, /, dtype: str = "fp32", **parts: Any) -> RunDir:
    """Carry a run out on a device to its end."""
    run_dir = prepare(folder, device, dtype, **parts)
    assert start_run(run_dir).wait(TIMEOUT_S) == 0, logs_of(run_dir)
    return run_dir


def prepare(folder: Path, device: torch.device, dtype: str, /, **parts: Any) -> RunDir:
    shared = folder.parent
    model, rows = shared / "model", shared / "rows.jsonl"
    if not rows.exists():
        make_model_folder(model)
        make_rows(rows, 20)
    own = {"source": str(model), "dtype": dtype, "device": device.type, **parts.pop("model", {})}
    return make_run(folder, model, rows, **{"model": own, "training": STEPS, **parts})


@pytest.mark.parametrize("method", [LORA, {"type": "dora", "rank": 4}, {"type": "full"}], ids=str)
def test_a_run_on_a_gpu_is_like_one_on_the_cpu(tmp_path: Path, method: dict[str, Any]) -> None:
    on_cpu = run_on(tmp_path / "on-cpu", CPU, method=method)
    on_gpu = run_on(tmp_path / "on-gpu", GPU, method=method)
    assert losses_of(on_gpu) == pytest.approx(losses_of(on_cpu), rel=1e-3)
    ours, theirs = weights_of(on_gpu), weights_of(on_cpu)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(theirs[name], atol=1e-2) for name in ours)
    assert device_of(load(str(on_gpu.path)).model) == GPU


@pytest.mark.parametrize(
    ("method", "base"),
    [(LORA, None), ({"type": "full"}, None), (LORA, "nf4"), (LORA, "int8")],
    ids=str,
)
def test_in_bf16_and_on_bases_of_fewer_bits_the_losses_are_near(
    tmp_path: Path, method: dict[str, Any], base: str | None
) -> None:
    exact = run_on(tmp_path / "on-cpu", CPU, method=method, model={"base": base})
    on_gpu = run_on(tmp_path / "on-gpu", GPU, "bf16", method=method, model={"base": base})
    assert losses_of(on_gpu) == pytest.approx(losses_of(exact), rel=0.03)
    assert read_json(on_gpu.environment_json)["dtype"] == "bf16"


STRATEGIES = [
    {"type": "ddp"},
    {"type": "fsdp"},
    {"type": "fsdp", "checkpoints": "parts"},
    {"type": "fsdp", "offload": "cpu"},
    *({"type": "deepspeed", "zero": stage} for stage in (1, 2, 3)),
    {"type": "deepspeed", "zero": 3, "offload": "cpu"},
]


@pytest.fixture(scope="module", name="on_cpu")
def one_process_on_the_cpu(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return run_on(tmp_path_factory.mktemp("one") / "on-cpu", CPU, method=LORA)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_process_for_each_gpu_makes_the_run_of_one_on_the_cpu(
    tmp_path: Path, on_cpu: RunDir, strategy: dict[str, Any]
) -> None:
    if strategy["type"] == "deepspeed":
        pytest.importorskip("deepspeed", reason="the extra deepspeed is not installed")
    spread = {**strategy, "processes": PROCESSES}
    on_gpus = run_on(tmp_path / "on-gpus", GPU, method=LORA, strategy=spread)
    assert losses_of(on_gpus) == pytest.approx(losses_of(on_cpu), rel=1e-3)
    ours, theirs = weights_of(on_gpus), weights_of(on_cpu)
    assert all(ours[name].allclose(theirs[name], atol=1e-2) for name in theirs)


def test_the_exchange_of_device_tensors_goes_over_nccl(tmp_path: Path) -> None:
    place = RankPlace(
        rank=0, size=1, local_rank=0, local_size=1, meeting=f"file://{tmp_path}/meeting"
    )
    backend = "cpu:gloo,cuda:nccl" if HAS_GPU else "gloo"
    dist.init_process_group(backend, init_method=place.meeting, rank=0, world_size=1)
    try:
        values = torch.ones(5, device=GPU)
        dist.all_reduce(values)
        dist.broadcast(values, src=0)
        told: list[Any] = [None]
        dist.all_gather_object(told, ValueError("an error"))  # in the host's memory
        assert values.tolist() == [1.0] * 5
        assert str(told[0]) == "an error"
    finally:
        dist.destroy_process_group()
    assert join(place, None, GPU).size == 1


@pytest.mark.parametrize("method", [{**LORA, "dropout": 0.2}, {"type": "full"}], ids=str)
def test_a_run_that_is_ended_and_resumed_is_bit_for_bit_the_same(
    tmp_path: Path, method: dict[str, Any]
) -> None:
    whole = run_on(tmp_path / "whole", GPU, method=method)
    ended = prepare(tmp_path / "ended", GPU, "fp32", method=method)
    process = start_run(ended)
    wait_for_step(ended, process, 3)
    process.kill()
    process.wait(TIMEOUT_S)
    assert start_run(ended).wait(TIMEOUT_S) == 0, logs_of(ended)
    assert_same_run(ended, whole)


def test_the_peak_is_told_and_within_the_plan(tmp_path: Path) -> None:
    run_dir = run_on(tmp_path / "run", GPU, method={"type": "full"})
    result, plan = read_json(run_dir.result_json), read_json(run_dir.plan_json)
    assert plan["memory_on"] == GPU.type
    if not HAS_GPU:
        assert "peak_device_memory_bytes" not in result
        return
    # weights, gradients and two moments, in fp32
    least = 16 * result["trainable_parameters"]
    assert least < result["peak_device_tensor_bytes"] <= result["peak_device_memory_bytes"]
    assert result["peak_device_memory_bytes"] <= result["planned_memory_bytes"]


def test_the_optimizer_is_fused_and_its_moments_are_on_the_gpu() -> None:
    trainer = Trainer(Case("full"), ONE_RANK, GPU)
    trainer.train(last_step=1)
    assert trainer.optimizer.defaults["fused"]
    moments = [one for kept in trainer.optimizer.state.values() for one in kept.values()]
    assert moments
    assert {one.device for one in moments} == {GPU}


def test_a_step_that_ran_out_of_memory_is_made_again_in_halves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (expected,) = Trainer(Case("lora"), ONE_RANK, GPU).train(last_step=1)
    trainer = Trainer(Case("lora"), ONE_RANK, GPU)
    refuse_above(60, monkeypatch)
    (found,) = trainer.train(last_step=1)
    assert "memory ran out at a micro-batch of 2 rows" in found.warnings[0]
    assert found.outcome.loss == pytest.approx(expected.outcome.loss, rel=1e-4)


def refuse_above(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memory run out in every micro-batch of more tokens, on a GPU for good."""
    original = objective_module.summed_loss

    def summed_loss(model: Any, batch: Any) -> Any:
        loss = original(model, batch)
        if batch.tokens_BT.numel() > tokens:
            if not HAS_GPU:
                raise torch.OutOfMemoryError("CUDA out of memory. GPU 0 has none left")
            torch.empty(2**50, dtype=torch.uint8, device=GPU)
        return loss

    monkeypatch.setattr(objective_module, "summed_loss", summed_loss)


def test_what_a_device_has_is_told_and_given_back() -> None:
    values = torch.zeros(2**22, device=GPU)
    taken, peak = taken_bytes(GPU), peak_of(GPU)
    del values
    give_back_unused(GPU)
    if not HAS_GPU:
        assert taken is peak is None
        return
    assert taken is not None
    assert peak is not None
    assert 2**24 <= peak.tensors <= peak.taken
    now = taken_bytes(GPU)
    assert now is not None
    assert now <= taken - 2**24
