"""The model of a run with its method in place, and what it is trained, measured and saved with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from tunesmith.core.memory_bound import bound_memory
from tunesmith.evaluation.held_out import preference_groups
from tunesmith.evaluation.held_out_rows import HeldOutRows
from tunesmith.methods.base import Shape
from tunesmith.methods.trained import describe_trained
from tunesmith.models.load import DTYPES
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.inputs import Inputs
from tunesmith.run.job import Job
from tunesmith.run.planned import Planned
from tunesmith.training.assemble import Assembled, assemble
from tunesmith.training.batch_plan import plan_batch
from tunesmith.training.complete import shapes_of
from tunesmith.training.final_folder import FinalFolder
from tunesmith.training.objective import Objective
from tunesmith.training.optimizer import head_rate_factors, make_optimizer
from tunesmith.training.preference_setup import Measurable, make_objectives
from tunesmith.training.rehearsal import rehearse_saving, room_of
from tunesmith.training.telling import tell_plan


@dataclass(frozen=True, kw_only=True, eq=False)
class Ready:
    """`shapes` are those of what a checkpoint holds, before weights are spread over ranks."""

    assembled: Assembled
    final: FinalFolder
    shapes: Mapping[str, Shape]
    objective: Objective
    evaluation: HeldOutRows


def make_ready(job: Job, inputs: Inputs, planned: Planned) -> Ready:
    """Load the weights, put the method on them, and save once before anything is trained.

    Raises:
        ModelError: the folder holds no such model, or an adapter to go on from does not fit it.
        RecipeError: the method does not fit the model.
        RunError: what is trained cannot be saved.
    """
    recipe, ranks = inputs.recipe, job.ranks
    assembled = assemble(
        inputs.prepared.folder,
        inputs.facts,
        recipe,
        inputs.tokenizer,
        inputs.head,
        steps=len(planned.steps),
        recompute=planned.memory.recompute,
        device=job.device,
        tell=job.tell,
    )
    method = assembled.method
    tell_plan_of(job, inputs, planned, assembled)
    bound_memory(ranks.place.local_size)
    final = FinalFolder(
        method, inputs.tokenizer, inputs.prepared, inputs.head, method.saved_shapes()
    )
    shapes = shapes_of(method.trainable)
    model_bytes = inputs.facts.parameters * DTYPES[planned.dtype].itemsize
    job.on_main(lambda: rehearse(job, recipe, final, model_bytes))
    objectives = objectives_of(job, inputs, planned, assembled)
    evaluation = HeldOutRows(
        run_dir=job.run_dir,
        events=job.events,
        task=recipe.task,
        data=inputs.data,
        part=recipe.evaluation,
        rows=planned.held_out,
        units=planned.units,
        objective=objectives["validation"],
        tokenizer=inputs.tokenizer,
        model=assembled.model,
        scored=assembled.scored,
        headed=assembled.headed,
        labels=inputs.labels,
        pad_id=inputs.pad_id,
    )
    return Ready(
        assembled=assembled,
        final=final,
        shapes=shapes,
        objective=objectives["train"],
        evaluation=evaluation,
    )


def tell_plan_of(job: Job, inputs: Inputs, planned: Planned, assembled: Assembled) -> None:
    """Write plan.json, and say what is trained."""
    recipe, method = inputs.recipe, assembled.method
    tell_plan(
        job.run_dir,
        job.events,
        recipe.training,
        planned.steps,
        inputs.data.train.lengths.tolist(),
        method,
        inputs.facts,
        planned.dtype,
        planned.memory,
        plan_batch(recipe, planned.steps, job.ranks.size, job.origins()),
    )
    job.tell(describe_trained(method, assembled.model))


def objectives_of(
    job: Job, inputs: Inputs, planned: Planned, assembled: Assembled
) -> dict[str, Objective]:
    """Return what is minimised on the rows that are trained, and what is measured on the others."""
    trained = [group for step in planned.steps for group in step.micro_batches]
    with job.ranks.main_first():
        return make_objectives(
            inputs.recipe.task,
            assembled.scored,
            {
                "train": Measurable(inputs.data.train, trained),
                "validation": Measurable(planned.held_out, preference_groups(planned.units)),
            },
            job.whole_run.path,
            pad_id=inputs.pad_id,
            tell=job.tell,
            head=assembled.head_objective,
        )


def optimizer_of(recipe: Recipe, assembled: Assembled) -> torch.optim.Optimizer:
    """Return the optimizer of what is trained; a method and a new head have rates of their own."""
    method, headed, part = assembled.method, assembled.headed, recipe.training
    new = headed.new if headed else ()
    return make_optimizer(
        method.trainable,
        part,
        learning_rate=recipe.learning_rate,
        rate_factors={
            **method.rate_factors,
            **head_rate_factors(method.trainable, new, part),
        },
    )


def rehearse(job: Job, recipe: Recipe, final: FinalFolder, model_bytes: int) -> None:
    """Save once before anything is trained."""
    room = room_of(recipe, final.method, model_bytes=model_bytes)
    warning = rehearse_saving(job.run_dir.path, final.method, room, final.write)
    if warning:
        job.events.write("warning", message=warning)
