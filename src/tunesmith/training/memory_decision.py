"""Decides, before weights are loaded, whether a run fits: go on, recompute layers, or refuse.

A refusal that is wrong is worse than a run that ends late, so what counts for it is the least that
the run can do with: micro-batches of one row, layers computed again unless the recipe forbids it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import torch

from tunesmith.core import hardware
from tunesmith.core.errors import Fault, MachineError
from tunesmith.data.pack import StepPlan
from tunesmith.models import packed_llama
from tunesmith.models.compiler import require_compiler
from tunesmith.models.device import CPU, free_bytes
from tunesmith.models.facts import ModelFacts
from tunesmith.recipe.method import FullMethod, LoraMethod
from tunesmith.recipe.peft_method import PeftMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import DeepSpeedStrategy
from tunesmith.training.answers_ask import answers_ask
from tunesmith.training.memory import (
    MemoryAsk,
    MemoryEstimate,
    adapter_values,
    estimate_memory,
    whole_values,
)
from tunesmith.training.optimizer import require_optimizer
from tunesmith.training.spread import Spread, spread_of
from tunesmith.training.strategies.division import divide
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks

RANK_OF_OTHERS = 8  # most other methods train fewer values than low rank 8; the plan counts them
LEAST_SHARE = 0.85  # the estimate is within 15% of what is measured


@dataclass(frozen=True, kw_only=True)
class MemoryDecision:
    """`warning` says that the run is expected to need more than there is."""

    ask: MemoryAsk
    warning: str | None
    ranks_here: int = 1
    """Ranks on this machine, each of which needs as much."""
    device: torch.device = CPU
    """Whose memory it is."""

    @property
    def recompute(self) -> bool:
        """Whether layers are computed again in the backward pass."""
        return self.ask.recompute

    @property
    def whose(self) -> str:
        """The memory that counts, in words."""
        return _whose(self.device)

    def estimate(self, trainable: int) -> MemoryEstimate:
        """The estimate once the trained values are counted."""
        return estimate_memory(replace(self.ask, trainable=trainable))


def require_machine(
    recipe: Recipe,
    facts: ModelFacts,
    plan: Sequence[StepPlan],
    lengths: Sequence[int],
    dtype: torch.dtype,
    *,
    device: torch.device = CPU,
    held_out: Sequence[int] = (),
    ranks: Ranks = ONE_RANK,
) -> MemoryDecision:
    """See to it that this machine can carry the run out, as it stands now.

    Of several ranks on this machine each has its share of the memory, or a GPU of its own, whose
    memory then counts. All decide by the rank that has least: what spreads weights waits for ever
    where one rank computes layers again and another does not.

    Raises:
        MachineError: the optimizer or a compiled layer does not work here, or there is not enough
            memory.
    """
    require_optimizer(recipe.training.optimizer, device)
    if recipe.training.compile_layers:
        require_compiler(device)
    on_device, ranks_here = free_bytes(device), ranks.place.local_size
    of_host = hardware.available_memory_bytes(swap=True) // ranks_here
    least = min(ranks.everybody(of_host if on_device is None else on_device))
    return decide_memory(
        recipe,
        facts,
        plan,
        lengths,
        held_out=held_out,
        dtype_bytes=dtype.itemsize,
        device=device,
        process_bytes=hardware.resident_bytes() if on_device is None else 0,
        available_bytes=least,
        num_ranks=ranks.size,
        ranks_here=ranks_here,
    )


def decide_memory(
    recipe: Recipe,
    facts: ModelFacts,
    plan: Sequence[StepPlan],
    lengths: Sequence[int],
    *,
    held_out: Sequence[int] = (),
    dtype_bytes: int,
    process_bytes: int,
    available_bytes: int,
    device: torch.device = CPU,
    num_ranks: int = 1,
    ranks_here: int = 1,
) -> MemoryDecision:
    """Estimate the run; `available_bytes` comes on top of what the process, one rank, has.

    `lengths` are those of the rows that are trained, `held_out` those of the others.

    Raises:
        MachineError: the least that the run can do with is more than there is.
    """
    room = process_bytes + available_bytes
    spread = spread_of(recipe.strategy, num_ranks)
    ask = _ask(recipe, facts, plan, lengths, dtype_bytes, process_bytes, spread)
    answers = answers_ask(recipe, held_out, device)
    least_answers = answers and replace(answers, exact=False)
    ask = replace(ask, answers=answers, on_gpu=device.type == "cuda")
    if estimate_memory(ask).total > room:  # which is seen again before answers are written
        ask = replace(ask, answers=least_answers)
    wanted = recipe.training.activation_checkpointing
    if wanted == "auto":
        ask = replace(ask, recompute=estimate_memory(ask).total > room)
    least = replace(
        ask, tokens=ask.longest, later=None, recompute=wanted is not False, answers=least_answers
    )
    if LEAST_SHARE * estimate_memory(least).total > room:
        raise MachineError(_too_large(least, room, ranks_here, device), code="memory")
    expected = estimate_memory(ask).total
    if expected <= room:
        return MemoryDecision(ask=ask, warning=None, ranks_here=ranks_here, device=device)
    of_all = f" for each of {ranks_here} processes" if ranks_here > 1 else ""
    warning = (
        f"the run is expected to need {_gigabytes(expected)} of {_whose(device)} and there are "
        f"{_gigabytes(room)}"
        f"{of_all}; "
        "where memory runs out, micro-batches are halved; to do: lower "
        "training.micro_batch_tokens, or see docs/memory.md"
    )
    return MemoryDecision(ask=ask, warning=warning, ranks_here=ranks_here, device=device)


def _ask(
    recipe: Recipe,
    facts: ModelFacts,
    plan: Sequence[StepPlan],
    lengths: Sequence[int],
    dtype_bytes: int,
    process_bytes: int,
    spread: Spread,
) -> MemoryAsk:
    method = recipe.method
    row = method.row if isinstance(method, PeftMethod) else None
    match method:
        case LoraMethod():
            rank = method.rank
            trainable = adapter_values(facts, rank) + whole_values(facts, method.modules_to_save)
        case FullMethod():
            rank, trainable = 0, facts.parameters
        case PeftMethod():
            rank, trainable = method.rank or RANK_OF_OTHERS, adapter_values(facts, RANK_OF_OTHERS)
        case _:
            assert_never(method)
    groups = [group for step in plan for group in step.micro_batches]
    packed = packed_llama.knows(facts.architecture) and (row is None or row.kind == "layers")
    packed = packed and not spread.weights  # by the modules' own passes, which engines see

    def tokens_of(group: Sequence[int]) -> int:
        own = [lengths[row] for row in group]
        return sum(own) if packed else len(own) * max(own)

    return MemoryAsk(
        facts=facts,
        dtype_bytes=dtype_bytes,
        trainable=trainable,
        rank=rank,
        matrices=row.matrices + round(row.matrices_a_rank * rank) if row else 0,
        wide_inputs=row.wide_inputs if row else False,
        keeps_outputs=method.type == "dora",
        dropout=bool(getattr(method, "dropout", 0.0)),
        optimizer=recipe.training.optimizer,
        tokens=max(tokens_of(group) for group in groups),
        longest=max(lengths[row] for group in groups for row in group),
        packed=packed,
        later=_largest_later(plan, tokens_of, spread),
        recompute=recipe.training.activation_checkpointing is True,
        process_bytes=process_bytes,
        base=recipe.model.base,
        double_quant=recipe.model.double_quant,
        spread=spread,
    )


def _largest_later(
    plan: Sequence[StepPlan], tokens_of: Callable[[Sequence[int]], int], spread: Spread
) -> int:
    """Return the tokens of the largest micro-batch that is not its rank's first in its step."""
    largest = 0
    for step in plan:
        sizes = [tokens_of(group) for group in step.micro_batches]
        for own in divide(sizes, spread.ranks):
            largest = max([largest, *(sizes[index] for index in own[1:])])
        if spread.weights and len(sizes) % spread.ranks:  # a rank with fewer fills up
            largest = max(largest, min(sizes))
    return largest


def _too_large(least: MemoryAsk, room: int, ranks_here: int, device: torch.device) -> Fault:
    needed = estimate_memory(least)
    parts = ", ".join(
        f"{name} {_gigabytes(size)}" for name, size in needed.as_json().items() if name != "total"
    )
    near = [
        words
        for words, changed in _nearest(least)
        if LEAST_SHARE * estimate_memory(changed).total <= room
    ]
    who, each = "the run needs", ""
    if ranks_here > 1:
        who, each = f"each of {ranks_here} processes on this machine needs", " for each"
    return Fault(
        found=f"{who} at least {needed.total:,} bytes ({parts}); there are {room:,} bytes{each}",
        where="this machine's memory" if device == CPU else f"the memory of {device}",
        fix="; or ".join(near) if near else "take a smaller model or a machine with more memory",
    )


def _nearest(ask: MemoryAsk) -> Iterator[tuple[str, MemoryAsk]]:
    """Changes of the recipe that need less, the smallest change first."""
    if not ask.recompute:
        yield "set training.activation_checkpointing: true", replace(ask, recompute=True)
    yield from _spread_further(ask)
    if ask.optimizer == "adamw" and not ask.spread.optimizer:
        yield "set training.optimizer: adamw-8bit", replace(ask, optimizer="adamw-8bit")
    if ask.optimizer != "adafactor" and not ask.spread.optimizer:
        yield "set training.optimizer: adafactor", replace(ask, optimizer="adafactor")
    if ask.dtype_bytes == 4:
        yield "set model.dtype: bf16", replace(ask, dtype_bytes=2)
    if ask.base is None and ask.rank and not ask.spread.weights:
        quantised = replace(ask, base="nf4")
        yield "set model.base: nf4", quantised
        if ask.dtype_bytes == 4:
            yield "set model.base: nf4 and model.dtype: bf16", replace(quantised, dtype_bytes=2)
    if ask.rank == 0:
        values = adapter_values(ask.facts, 16)
        adapter = replace(ask, rank=16, trainable=values)
        yield "use method: lora", adapter
        if ask.dtype_bytes == 4:
            yield "use method: lora with model.dtype: bf16", replace(adapter, dtype_bytes=2)
        if ask.spread.weights:
            return
        yield "use method: qlora", replace(adapter, base="nf4")
        if ask.dtype_bytes == 4:
            both = replace(adapter, base="nf4", dtype_bytes=2)
            yield "use method: qlora with model.dtype: bf16", both


def _spread_further(ask: MemoryAsk) -> Iterator[tuple[str, MemoryAsk]]:
    """The engines that spread more over the ranks that there are."""
    spread = ask.spread
    if spread.ranks == 1 or ask.optimizer != "adamw" or spread.weights:
        return
    for stage in (2, 3):
        if ask.base is None or stage == 2:
            engine = DeepSpeedStrategy(type="deepspeed", zero=stage)
            words = f"use strategy: {{type: deepspeed, zero: {stage}}}"
            yield (
                words,
                replace(
                    ask, spread=spread_of(engine, spread.ranks), packed=ask.packed and stage == 2
                ),
            )


def _whose(device: torch.device) -> str:
    return "memory" if device == CPU else "the GPU's memory"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
