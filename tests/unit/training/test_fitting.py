"""Memory that runs out: the step is made again in halves, with the same numbers."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import tunesmith.training.objective as objective_module
from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tunesmith.core.errors import RunError
from tunesmith.core.out_of_memory import is_out_of_memory, let_go
from tunesmith.data.collate import Batch
from tunesmith.data.pack import StepPlan, plan_steps
from tunesmith.evaluation.before_after import measure_loss
from tunesmith.methods.base import AppliedMethod
from tunesmith.methods.select import apply_method
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.training import TrainingPart
from tunesmith.training import fitting
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.loss import LanguageModel, SummedLoss, summed_loss
from tunesmith.training.optimizer import make_optimizer

ROWS = make_examples([30, 28, 26, 24, 30, 28, 26, 24, 22, 20, 18, 16])
CPU_WORDS = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"


class Memory:
    """Fails in the backward pass of any micro-batch of more tokens than it holds."""

    def __init__(self, tokens: int | None, error: type[Exception] = RuntimeError) -> None:
        self.tokens, self.error, self.failures = tokens, error, 0

    def __call__(self, model: LanguageModel, batch: Batch) -> SummedLoss:
        loss = summed_loss(model, batch)
        if self.tokens is not None and batch.tokens_BT.numel() > self.tokens:
            self.failures += 1
            loss.total.backward()  # leaves wrong gradients behind, as a real failure may
            torch.rand(3)
            raise self.error(CPU_WORDS)
        return loss


def plan() -> tuple[StepPlan, ...]:
    lengths = [len(row.tokens) for row in ROWS]
    return plan_steps(
        lengths, epochs=2, max_steps=None, tokens_per_step=130, micro_batch_tokens=130, seed=0
    )


def train(
    monkeypatch: pytest.MonkeyPatch,
    memory: Memory,
    *,
    method: LoraMethod | FullMethod | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[StepDone], AppliedMethod]:
    monkeypatch.setattr(objective_module, "summed_loss", memory)
    model = make_llama(dtype=dtype)
    applied = apply_method(model, method or LoraMethod(rank=4), seed=0)
    part = TrainingPart(learning_rate=1e-2)
    optimizer = make_optimizer(applied.trainable, part, learning_rate=1e-2)
    steps = train_steps(
        language_model(model), applied, optimizer, ROWS, plan(), part, peak_rate=1e-2, pad_id=0
    )
    return list(steps), applied


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.OutOfMemoryError])
def test_a_step_that_ran_out_of_memory_is_made_again_with_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    whole, exact = train(monkeypatch, Memory(None))
    memory = Memory(70, error)
    given_back: list[torch.device] = []
    monkeypatch.setattr(fitting, "give_back_unused", given_back.append)
    halved, ours = train(monkeypatch, memory)
    assert memory.failures == 1  # the smaller size is kept: no step fails again
    assert given_back == [torch.device("cpu")]
    assert [done.outcome.loss for done in halved] == pytest.approx(
        [done.outcome.loss for done in whole], rel=1e-4
    )
    for name, value in ours.trainable.items():
        torch.testing.assert_close(value, exact.trainable[name], atol=2e-4, rtol=1e-3)
    told = [(done.step, text) for done in halved for text in done.warnings]
    assert [number for number, _ in told] == [1]
    assert "memory ran out at a micro-batch of 4 rows x 30 tokens; going on with half" in told[0][1]
    assert {done.micro_batch_limit for done in halved} == {60}
    assert {done.micro_batch_limit for done in whole} == {None}


def test_full_training_in_16_bits_keeps_no_gradient_of_the_failed_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = FullMethod()
    whole, _ = train(monkeypatch, Memory(None), method=part, dtype=torch.bfloat16)
    halved, _ = train(monkeypatch, Memory(35), method=part, dtype=torch.bfloat16)
    assert [done.outcome.gradient_norm for done in halved[:1]] == pytest.approx(
        [done.outcome.gradient_norm for done in whole[:1]], rel=0.02
    )
    assert sum(len(done.warnings) for done in halved) == 2  # 4 rows, 2 rows, then one


def test_a_row_that_does_not_fit_alone_is_named_with_the_remedies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RunError, match="memory ran out at one row of 30 tokens") as caught:
        train(monkeypatch, Memory(29))
    (fault,) = caught.value.faults
    assert caught.value.code == "out_of_memory"
    assert fault.where.startswith("step 1, row rows:")
    assert "activation_checkpointing" in fault.fix
    assert "max_length" in fault.fix


def test_other_errors_are_not_taken_for_it() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(RuntimeError(CPU_WORDS))
    words = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert is_out_of_memory(RuntimeError(words))


def test_what_the_failed_frames_held_is_let_go() -> None:
    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

    def fill() -> None:
        large = Large()
        try:
            raise MemoryError(str(large))
        except MemoryError as inner:
            raise RuntimeError(CPU_WORDS) from inner

    try:
        fill()
    except RuntimeError as error:
        assert Large.alive == 1
        let_go(error)
        assert Large.alive == 0


def test_evaluation_goes_on_in_halves() -> None:
    model = language_model(make_llama())
    whole = measure_loss(model, ROWS)
    calls: list[int] = []

    def limited(batch: Batch) -> SummedLoss:
        calls.append(batch.tokens_BT.numel())
        if batch.tokens_BT.numel() > 100:
            raise RuntimeError(CPU_WORDS)
        return summed_loss(model, batch)

    from tunesmith.evaluation.held_out import held_out_loss

    with torch.no_grad():
        halved = held_out_loss(limited, ROWS)
        assert halved.loss == pytest.approx(whole.loss, rel=1e-6)
        assert (halved.rows, halved.tokens) == (whole.rows, whole.tokens)
        assert sum(size > 100 for size in calls) == 2  # 12 rows, 6 rows, then 3
        with pytest.raises(RunError, match="one held-out row of 30 tokens"):
            held_out_loss(always_full, ROWS)


def always_full(_: Batch) -> SummedLoss:
    raise MemoryError


REAL_LIMIT = """
import ctypes
import resource
import torch
import tunesmith.training.loop as loop
from tests.fakes.tiny_llama import language_model, make_examples, make_llama
from tunesmith.core import hardware
from tunesmith.data.pack import plan_steps
from tunesmith.methods.select import apply_method
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.optimizer import make_optimizer

ROWS = make_examples([128] * 32)
PLAN = plan_steps([128] * 32, epochs=4, max_steps=4, tokens_per_step=4096,
                  micro_batch_tokens=4096, seed=0)


def losses(room):
    model = make_llama(hidden_size=256, intermediate_size=1024, num_hidden_layers=4)
    applied = apply_method(model, LoraMethod(rank=4), seed=0)
    part = TrainingPart(learning_rate=1e-3)
    optimizer = make_optimizer(applied.trainable, part, learning_rate=1e-3)
    done = []

    def bound(_):
        if room is not None and len(done) == 2:  # step 3 is next
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what steps 1 and 2 left is not to be reused
            hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
            resource.setrlimit(resource.RLIMIT_DATA, (hardware.private_bytes() + room, hard))

    loop.bound_memory = bound
    for step in loop.train_steps(language_model(model), applied, optimizer, ROWS, PLAN, part,
                                 peak_rate=1e-3, pad_id=0):
        done.append(step)
    return done

torch.set_num_threads(1)
free, tight = losses(None), losses(30 * 2**20)
for one, other in zip(free, tight, strict=True):
    assert abs(one.outcome.loss - other.outcome.loss) < 1e-4 * one.outcome.loss, (one, other)
    assert abs(one.outcome.gradient_norm / other.outcome.gradient_norm - 1) < 1e-3
assert [bool(step.warnings) for step in tight] == [False, False, True, False], tight
print(tight[2].warnings)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA bounds it on Linux")
@pytest.mark.long
def test_a_real_limit_at_step_3_is_survived() -> None:
    result: Any = subprocess.run(
        [sys.executable, "-c", REAL_LIMIT], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "memory ran out at a micro-batch of 32 rows x 128 tokens" in result.stdout
