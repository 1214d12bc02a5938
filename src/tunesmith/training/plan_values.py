"""What plan.json holds: how much a run will do, with what, and in what memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from tunesmith.data.pack import StepPlan
from tunesmith.methods.base import AppliedMethod, count_trainable
from tunesmith.methods.trained import trained_kinds
from tunesmith.models.facts import ModelFacts
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.batch_plan import BatchPlan
from tunesmith.training.memory import offload_bytes
from tunesmith.training.memory_decision import MemoryDecision
from tunesmith.training.optimizer import decay_of


def plan_values(
    plan: Sequence[StepPlan],
    lengths: Sequence[int],
    method: AppliedMethod,
    facts: ModelFacts,
    part: TrainingPart,
    dtype: str,
    memory: MemoryDecision,
    batch: BatchPlan,
) -> dict[str, Any]:
    """Return the content of plan.json; `memory` in bytes, by part."""
    trainable = count_trainable(method)
    return {
        "total_steps": len(plan),
        "epochs": plan[-1].epoch,
        "micro_batches": sum(len(step.micro_batches) for step in plan),
        "batch": batch.as_json(),
        "tokens": sum(lengths[row] for step in plan for row in step.rows),
        "trainable_parameters": trainable,
        "trainable_dtype": "fp32",
        "trained": [asdict(kind) for kind in trained_kinds(method)],
        "total_parameters": facts.parameters,
        "dtype": dtype,
        **decay_of(method.trainable, part),
        "activation_checkpointing": memory.recompute,
        "memory": (estimate := memory.estimate(trainable)).as_json(),
        "ranks_on_this_machine": memory.ranks_here,
        "memory_on": memory.device.type,
        "memory_of_all_ranks": memory.ranks_here * estimate.total,
        "offload_disk_bytes": memory.ranks_here
        * offload_bytes(replace(memory.ask, trainable=trainable)),
    }
