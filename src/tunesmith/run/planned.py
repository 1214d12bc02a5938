"""What a run is to do, known before weights are loaded: its steps, what is measured, its memory."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.core.run_dir import read_json, write_json
from tunesmith.data.pack import StepPlan, plan_steps
from tunesmith.data.pipeline import RunData
from tunesmith.data.prepared.examples import Examples
from tunesmith.data.units import Units
from tunesmith.evaluation.held_out_rows import held_out_examples
from tunesmith.models.device import compute_on, device_name
from tunesmith.models.load import DTYPES, choose_dtype
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.inputs import Inputs
from tunesmith.run.job import Job
from tunesmith.training.environment import compare_environments, describe_environment
from tunesmith.training.memory import offload_bytes
from tunesmith.training.memory_decision import MemoryDecision, require_machine
from tunesmith.training.preference_setup import units_of
from tunesmith.training.schedule import count_warmup_steps
from tunesmith.training.strategies.offload import require_offload_room
from tunesmith.training.strategies.start import (
    require_own_gpus,
    require_strategy,
    strategy_warnings,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Planned:
    """`dtype` is what the model computes in; `units` belong to the held-out rows."""

    steps: tuple[StepPlan, ...]
    held_out: Examples
    units: Units
    dtype: str
    memory: MemoryDecision


def plan_run(job: Job, inputs: Inputs) -> Planned:
    """Plan every step, and hold the run's memory beside the machine's.

    Raises:
        MachineError: it cannot fit.
        RecipeError: the warm-up is longer than the run, or the strategy cannot do the method.
    """
    recipe, ranks = inputs.recipe, job.ranks
    steps = plan_training(recipe, inputs.data)
    held_out = held_out_examples(recipe.task, recipe.evaluation, inputs.data)
    units = units_of(recipe.task, held_out, file=recipe.data.train, is_trained=False)
    job.run.total_steps = len(steps)
    device = job.device
    compute_on(device)
    require_own_gpus(ranks, device)
    dtype = ranks.share(choose_dtype(recipe.model, device))  # where machines differ, rank 0's
    require_strategy(recipe, dtype)
    keep_environment(job, inputs, dtype)
    memory = require_machine(
        recipe,
        inputs.facts,
        steps,
        inputs.data.train.lengths.tolist(),
        DTYPES[dtype],
        device=device,
        held_out=held_out.lengths.tolist(),
        ranks=ranks,
    )
    needed = ranks.place.local_size * offload_bytes(memory.ask)
    require_offload_room(recipe.strategy, job.whole_run.path, needed)
    warnings = (memory.warning, *strategy_warnings(recipe, ranks.size, steps))
    for warning in warnings:
        if warning:
            job.events.write("warning", message=warning)
    return Planned(steps=steps, held_out=held_out, units=units, dtype=dtype, memory=memory)


def plan_training(recipe: Recipe, data: RunData) -> tuple[StepPlan, ...]:
    """Plan every step; a warm-up that does not fit is refused here, before weights are loaded."""
    part = recipe.training
    units = units_of(recipe.task, data.train, file=recipe.data.train, is_trained=True)
    plan = plan_steps(
        units.lengths,
        padded=units.padded,
        epochs=part.epochs,
        max_steps=part.max_steps,
        tokens_per_step=part.tokens_per_step,
        micro_batch_tokens=part.micro_batch_tokens,
        seed=part.seed,
    )
    count_warmup_steps(part.warmup, total_steps=len(plan), peak=recipe.learning_rate)
    return units.spell_out(plan)


def keep_environment(job: Job, inputs: Inputs, dtype: str) -> None:
    """Write environment.json; a resumed run compares with what was written first."""
    data, tokenizer, recipe = inputs.data, inputs.tokenizer, inputs.recipe
    now = describe_environment(
        prepared=inputs.prepared,
        data_sha256={
            "train": data.train.fingerprint(),
            "validation": data.validation.fingerprint(),
        },
        special_tokens={
            "bos": tokenizer.bos_token_id,
            "eos": tokenizer.eos_token_id,
            "pad": tokenizer.pad_token_id,
        },
        dtype=dtype,
        device=device_name(job.device),
        base=recipe.model.base,
        seed=recipe.training.seed,
        ranks=job.ranks.size,
    )
    file = job.run_dir.environment_json
    if not file.exists():
        write_json(file, now)
        return
    for difference in compare_environments(read_json(file), now):
        job.run.warn(difference)
