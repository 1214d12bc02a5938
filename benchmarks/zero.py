"""What each rank holds and sends with ddp, ZeRO 1, 2, 3 and FSDP, beside the closed form.

    python benchmarks/zero.py --ranks 1 2 4 --out benchmarks/results/zero.json

A random Llama of 3.9 M parameters is trained for three steps of four micro-batches, full and with
LoRA, on gloo ranks of this machine. What is counted are the bytes of the tensors that a rank really
holds: after a step, and before one, when gradients are at their largest. A tensor counts once,
however many views it has; what was there before the model does not count.

    psi  values of the model    t  values that are trained    n  ranks    w  bytes of a weight

Rajbhandari et al., 2020 (ZeRO), table 1, gradients in 16 bits: (2 + 2 + 12) psi with plain data
parallelism, 2 psi + 2 psi + 12 psi / n with stage 1, 2 psi + 14 psi / n with stage 2, 16 psi / n
with stage 3. Here gradients are added up in fp32 (4 bytes), weights in fp32 (w = 4) are their own
masters except with DeepSpeed, which copies its part, and what is not trained has no state.

What is sent is counted at torch's own collectives, as a ring sends it: an all-reduce of S bytes is
2 S (n - 1) / n for each rank, a gathering or a scattering S (n - 1) / n. The closed form is the
paper's section 7: 2 psi with stages 1 and 2, 3 psi with stage 3, here by micro-batches.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from tunesmith.core import hardware
from tunesmith.core.rank_place import RankPlace
from tunesmith.data.example import Example
from tunesmith.data.pack import StepPlan
from tunesmith.methods.base import count_trainable
from tunesmith.methods.select import apply_method
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import (
    DdpStrategy,
    DeepSpeedStrategy,
    FsdpStrategy,
    SingleStrategy,
    has_own_masters,
)
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.loop import train_steps
from tunesmith.training.loss import LanguageModel
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.strategies import deepspeed
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks, join
from tunesmith.training.strategies.start import make_strategy

VOCABULARY, LENGTH, STEPS, MICRO_BATCHES = 1024, 32, 3, 4
RATE = 1e-3
STRATEGIES: dict[str, Any] = {
    "ddp": DdpStrategy(),
    "zero-1": DeepSpeedStrategy(type="deepspeed", zero=1),
    "zero-2": DeepSpeedStrategy(type="deepspeed", zero=2),
    "zero-3": DeepSpeedStrategy(type="deepspeed", zero=3),
    "fsdp": FsdpStrategy(type="fsdp"),
}
METHODS: dict[str, Any] = {"full": FullMethod(), "lora": LoraMethod(rank=16)}
# full in bf16 with ZeRO 1 and FSDP is refused: their engines do not see fp32 copies
CASES = [
    (method, dtype, strategy)
    for method, dtype in (("full", "fp32"), ("full", "bf16"), ("lora", "bf16"))
    for strategy in STRATEGIES
    if (method, dtype) != ("full", "bf16") or strategy in ("ddp", "zero-2", "zero-3")
]
LARGE_BYTES = 100_000
# DeepSpeed's buffers, as small beside this model as the strategy's own are beside a large one.
BUFFER_VALUES = 400_000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# How much of a collective's bytes each of n ranks sends, in (n - 1) / n, and which argument counts.
COLLECTIVES = {
    "allreduce_": (2.0, 0),
    "broadcast_": (1.0, 0),
    "reduce_": (1.0, 0),
    "allgather_": (1.0, 0),
    "_allgather_base_": (1.0, 0),
    "allgather_into_tensor_coalesced_": (1.0, 0),
    "reduce_scatter_": (1.0, 1),
    "_reduce_scatter_base_": (1.0, 1),
    "reduce_scatter_tensor_coalesced_": (1.0, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--kinds", nargs="+", default=["full-fp32", "full-bf16", "lora-bf16"])
    parser.add_argument("--add", action="store_true", help="to the cases that --out holds")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    out = Path(options.out)
    result: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": hardware.describe(),
        "cases": json.loads(out.read_text())["cases"] if options.add else [],
    }
    for size in options.ranks:
        result["cases"] += in_ranks(size, options.kinds)
        one = {kind_of(case): case["losses"] for case in result["cases"] if case["ranks"] == 1}
        for case in result["cases"]:
            if kind_of(case) in one:
                case["largest_loss_difference"] = difference(case["losses"], one[kind_of(case)])
        out.write_text(json.dumps(result, indent=1) + "\n")
    for case in result["cases"]:
        print(line(case))


def kind_of(case: dict[str, Any]) -> str:
    """What is trained, and in which dtype."""
    return f"{case['method']}-{case['dtype']}"


def line(case: dict[str, Any]) -> str:
    """One row of the table in README.md."""
    held, form = case["held"], case["closed_form"]
    parts = " | ".join(f"{held[part] / 1e6:.1f}" for part in form["held"])
    return (
        f"| {case['method']} {case['dtype']} | {case['strategy']} | {case['ranks']} | {parts} | "
        f"**{sum(held[part] for part in form['held']) / 1e6:.1f}** | "
        f"{sum(form['held'].values()) / 1e6:.1f} | {held['other'] / 1e6:.1f} | "
        f"{case['sent_a_step'] / 1e6:.1f} | {form['sent'] / 1e6:.1f} | "
        f"{case.get('largest_loss_difference', math.nan):.1e} |"
    )


def difference(found: list[float], one: list[float]) -> float:
    """The largest difference of two curves, relative."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, one, strict=True))


def in_ranks(size: int, kinds: list[str]) -> list[dict[str, Any]]:
    """Measure every case on so many ranks; the ranks' bytes are the largest of all."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes: list[Any] = []
        processes: list[Any] = []
        for rank in range(size):
            place = RankPlace(
                rank=rank,
                size=size,
                local_rank=rank,
                local_size=size,
                meeting=f"file://{folder}/meeting",
            )
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=be_rank, args=(theirs, place, kinds), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        found = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join()
    return [largest(list(same)) for same in zip(*found, strict=True)]


def largest(ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """Join what the ranks found: the one that holds most, and what each sent on average."""
    most = max(ranks, key=lambda case: sum(case["held"].values()))
    sent = sum(case["sent_a_step"] for case in ranks) / len(ranks)
    return {**most, "losses": ranks[0]["losses"], "sent_a_step": sent}


def be_rank(pipe: Connection, place: RankPlace, kinds: list[str]) -> None:
    torch.set_num_threads(1)
    deepspeed.BUCKET_VALUES = deepspeed.LIVE_VALUES = BUFFER_VALUES
    ranks = join(place) if place.size > 1 else ONE_RANK
    found = []
    for method, dtype, strategy in CASES:
        if f"{method}-{dtype}" not in kinds or (place.size == 1 and strategy != "ddp"):
            continue
        found.append(measure(ranks, method, dtype, strategy))
        if ranks.is_main:
            print(line(found[-1]), file=sys.stderr, flush=True)
        gc.collect()
    pipe.send(found)
    pipe.close()
    ranks.wait()


def measure(ranks: Ranks, method: str, dtype: str, strategy: str) -> dict[str, Any]:
    """Train; return the bytes of every part when they are the most, losses and what was sent."""
    before = {storage for storage, _ in live_tensors()}
    training = Training(ranks, method, dtype, strategy)
    with Sent(training.look_in_last_step) as sent:
        losses = training.losses(sent)
    held = training.at_their_largest(before)
    form = closed_form(method, dtype, strategy, ranks.size, training.base_values, training.trained)
    return {
        "method": method,
        "dtype": dtype,
        "strategy": strategy if ranks.size > 1 else "single",
        "ranks": ranks.size,
        "base_values": training.base_values,
        "trained_values": training.trained,
        "held": held,
        "weights_within_a_step": training.weights_within_a_step(before),
        "held_after_a_step": training.after_a_step(before),
        "sent_a_step": sent.of_last_step,
        "collectives_a_step": dict(sent.calls),
        "closed_form": asdict(form),
        "losses": losses,
    }


@dataclass(frozen=True)
class ClosedForm:
    """Bytes of each part on one rank, and what a rank sends in a step."""

    held: dict[str, float]
    sent: float


def closed_form(method: str, dtype: str, strategy: str, n: int, psi: int, t: int) -> ClosedForm:
    """The paper's sums, with the layout above. `t` are the trained values, `psi` all of them."""
    width = DTYPES[dtype].itemsize
    full = method == "full"
    stage = {"ddp": 0, "zero-1": 1, "zero-2": 2, "zero-3": 3, "fsdp": 3}[strategy]
    if n == 1:
        stage = 0
    frozen = 0 if full else psi
    weights = frozen * width + t * (width if full else 4)
    copies = strategy.startswith("zero") and stage > 0
    masters = 4 * t if copies or (full and width < 4) else 0
    gradients = 4 * t / (n if stage >= 2 else 1)
    if stage == 1:  # the part of the sum beside the whole
        gradients += 4 * t / n
    if copies and stage > 1:  # the buffer on its way
        gradients += 4 * min(t, BUFFER_VALUES)
    small = 4 * t if copies and stage == 3 and not full else 0  # stays whole beside its part
    held = {
        "weights": weights / (n if stage >= 3 else 1) + small,
        "masters": masters / (n if stage >= 1 else 1),
        "gradients": gradients,
        "moments": 8 * t / (n if stage >= 1 else 1),
    }
    passes = MICRO_BATCHES / n
    gradient = t * (width if full and copies else 4)  # DeepSpeed sends them in the weights' dtype
    trained_weights = t * (width if full else 4)
    match stage:
        case 0:
            sent = 2 * gradient
        case 1:
            sent = gradient + trained_weights
        case 2:  # gradients leave after each pass
            sent = passes * gradient + trained_weights
        case _:  # weights come for each forward and each backward pass
            sent = passes * (2 * weights + gradient)
    return ClosedForm(held, sent * (n - 1) / n)


class Training:
    """A model with its method, and the strategy of these ranks."""

    def __init__(self, ranks: Ranks, method: str, dtype: str, strategy: str) -> None:
        self.ranks = ranks
        part = SingleStrategy() if ranks.size == 1 else STRATEGIES[strategy]
        self.model = make_model(DTYPES[dtype])
        self.base_values = sum(value.numel() for value in self.model.parameters())
        self.method = apply_method(
            self.model, METHODS[method], seed=0, steps=STEPS, masters=not has_own_masters(part)
        )
        self.trained = count_trainable(self.method)
        self.part = TrainingPart(learning_rate=RATE, schedule="constant", warmup=0)
        self.optimizer = make_optimizer(self.method.trainable, self.part, learning_rate=RATE)
        recipe = Recipe.model_construct(strategy=part, training=self.part)
        self.strategy = make_strategy(recipe, ranks)
        self.scored = LanguageModel(decoder=self.model.model, head=self.model.lm_head)
        self.strategy.begin(self.model, self.scored, self.method, self.optimizer)
        self.seen: list[dict[int, tuple[str, int]]] = []
        self.step = 1

    def losses(self, sent: Sent) -> list[float]:
        """Make the steps."""
        losses: list[float] = []
        steps = train_steps(
            self.scored,
            self.method,
            self.optimizer,
            make_examples(),
            make_plan(),
            self.part,
            peak_rate=RATE,
            pad_id=0,
            first_step=1,
            strategy=BeforeUpdate(self.strategy, self.look_in_last_step),  # pyright: ignore[reportArgumentType]
        )
        sent.begin()
        for done in steps:
            losses.append(done.outcome.loss)
            sent.end_of_step()
            self.step += 1
        return losses

    def look_in_last_step(self) -> None:
        """Note what is held at an exchange, or before the update, where the step is the last."""
        if self.step == STEPS:
            self.look()

    def look(self) -> None:
        """Note what is held now."""
        gc.collect()
        parts: dict[int, tuple[str, int]] = {}
        for part, tensors in self.parts():
            for tensor in tensors:
                storage, size = storage_of(tensor)
                parts.setdefault(storage, (part, size))
        for storage, size in live_tensors():
            parts.setdefault(storage, ("other", size))
        self.seen.append(parts)

    def at_their_largest(self, before: set[int]) -> dict[str, int]:
        """The bytes of each part before the last update; of gradients the most within the step."""
        looks = [counted(parts, before) for parts in self.seen]
        return {**looks[-1], "gradients": max(one["gradients"] for one in looks)}

    def weights_within_a_step(self, before: set[int]) -> int:
        """The most that weights take while they are put together."""
        return max(counted(parts, before)["weights"] for parts in self.seen)

    def after_a_step(self, before: set[int]) -> dict[str, int]:
        """The bytes of each part now."""
        self.look()
        return counted(self.seen.pop(), before)

    def parts(self) -> Iterator[tuple[str, list[torch.Tensor]]]:
        """The tensors that are known, by what they are; a storage counts for the first."""
        weights = list(self.model.parameters())
        trained = list(self.method.trainable.values())
        engine = getattr(self.strategy, "engine", None)
        zero = getattr(engine, "optimizer", None)
        yield (
            "weights",
            [*weights, *(one.ds_tensor for one in weights if hasattr(one, "ds_tensor"))],
        )
        flat = getattr(self.strategy, "_flat", list)() if zero is not None else []
        yield "masters", [*flat, *trained]
        yield "gradients", gradients([*weights, *trained, *flat], zero)
        optimizer = zero.optimizer if zero is not None else self.optimizer
        states = optimizer.state.values()
        yield "moments", [value for state in states for value in state.values() if is_tensor(value)]


def gradients(parameters: list[torch.Tensor], zero: Any) -> list[torch.Tensor]:
    """Gradients where the engine keeps them: at parameters, at its flat parts, in its own lists."""
    found = [one.grad for one in parameters if one.grad is not None]
    found += [one.grad_accum for one in parameters if getattr(one, "grad_accum", None) is not None]
    averaged = getattr(zero, "averaged_gradients", None) or {}
    lists = averaged.values() if isinstance(averaged, dict) else averaged
    found += [one for group in lists for one in group or () if is_tensor(one)]
    flat = getattr(zero, "grad_partitions_flat_buffer", None)
    return [*found, *([flat] if is_tensor(flat) else [])]


def is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def counted(parts: dict[int, tuple[str, int]], before: set[int]) -> dict[str, int]:
    """Add up by part what was not there before."""
    sums = Counter(weights=0, masters=0, gradients=0, moments=0, other=0)
    for storage, (part, size) in parts.items():
        if storage not in before:
            sums[part] += size
    return dict(sums)


def storage_of(tensor: Any) -> tuple[int, int]:
    local = getattr(tensor, "_local_tensor", tensor)  # of a DTensor, this rank's part
    storage = local.untyped_storage()
    return storage.data_ptr(), storage.nbytes()


def live_tensors() -> list[tuple[int, int]]:
    """Every tensor that Python knows of, by its storage, and the gradients at them."""
    found: dict[int, int] = {}
    for one in gc.get_objects():
        if not issubclass(type(one), torch.Tensor) or one.device.type != "cpu":
            continue
        for tensor in (one, one.grad if one.is_leaf else None):
            if tensor is not None:
                storage, size = storage_of(tensor)
                found[storage] = size
    return [*found.items()]


class BeforeUpdate:
    """A strategy that lets someone look before each update."""

    def __init__(self, strategy: Any, look: Any) -> None:
        self.strategy, self.look = strategy, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strategy, name)

    def update(self, *arguments: Any, **settings: Any) -> float:
        """Look, and update."""
        self.look()
        return self.strategy.update(*arguments, **settings)


class Sent(TorchDispatchMode):
    """Counts the bytes of every collective, at the operator that all ways to call one lead to."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self.look = look
        self.begin()

    def begin(self) -> None:
        """Count from here on."""
        self.bytes, self.of_last_step = 0.0, 0.0
        self.calls: Counter[str] = Counter()
        self.current: Counter[str] = Counter()

    def end_of_step(self) -> None:
        """Keep what this step has sent."""
        self.of_last_step, self.bytes = self.bytes, 0.0
        self.calls, self.current = self.current, Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            name = func._schema.name.partition("::")[2]
            if name in COLLECTIVES:
                times, place = COLLECTIVES[name]
                size, n = bytes_in(args[place]), torch.distributed.get_world_size()
                if "reduce" in name and size > LARGE_BYTES:  # of gradients
                    self.look()
                self.bytes += times * size * (n - 1) / n
                self.current[name] += 1
            else:
                assert name in ("barrier", "monitored_barrier_"), name
        return func(*args, **(kwargs or {}))


def bytes_in(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(bytes_in, value)) if isinstance(value, list | tuple) else 0


def make_model(dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    rotary: Any = model.model.rotary_emb
    frequencies = rotary.inv_freq
    model.to(dtype)
    rotary.inv_freq = frequencies  # loading a model leaves these in fp32, too
    return model.eval().requires_grad_(False)


def make_examples() -> list[Example]:
    generator = np.random.default_rng(0)
    return [
        Example(
            row_id=f"rows:{row}",
            file="rows",
            line=row,
            tokens=generator.integers(1, VOCABULARY, LENGTH).astype(np.int32),
            weights=np.array([0.0] + [1.0] * (LENGTH - 1), dtype=np.float32),
        )
        for row in range(MICRO_BATCHES)
    ]


def make_plan() -> tuple[StepPlan, ...]:
    """The same rows in every step, one a micro-batch."""
    groups = tuple((row,) for row in range(MICRO_BATCHES))
    return tuple(StepPlan(step, float(step), groups) for step in range(1, STEPS + 1))


if __name__ == "__main__":
    main()
