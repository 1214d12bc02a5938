"""The stages of a run in their order: data, model, before, steps, after, report."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from functools import partial

from tunesmith.core import hardware
from tunesmith.core.run_dir import write_json
from tunesmith.evaluation.report import write_report
from tunesmith.evaluation.result import Peak, describe_result
from tunesmith.methods.switching import adapters_off
from tunesmith.models.device import peak_of
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.inputs import Inputs, read_inputs
from tunesmith.run.job import Job
from tunesmith.run.planned import plan_run
from tunesmith.run.ready import Ready, make_ready
from tunesmith.run.steps import make_steps
from tunesmith.training.checkpoint import Progress


def carry_out(recipe: Recipe, job: Job) -> None:
    """Carry out a recipe as one of its ranks.

    Raises:
        TunesmithError: the run failed; the error says where, and what to do.
        StoppedEarly: the run was asked to stop.
    """
    job.run.write_state("running")
    job.events.write("run", status="running", pid=os.getpid())
    started = time.monotonic()
    inputs = read_inputs(recipe, job)
    planned = plan_run(job, inputs)
    ready = make_ready(job, inputs, planned)
    measure_before(job, inputs, ready)
    progress = make_steps(job, inputs, planned, ready)
    finish(job, inputs, ready, progress, started)


def measure_before(job: Job, inputs: Inputs, ready: Ready) -> None:
    """Measure the model as it was, unless a run that is resumed has done so."""
    evaluation = ready.evaluation
    if not inputs.recipe.evaluation.before or job.ranks.share(evaluation.has("before")):
        return
    # what a run goes on from is the adapter's work so far, too
    with nullcontext() if inputs.starting else adapters_off(ready.assembled.model):
        job.on_main(lambda: evaluation.measure("before", job.run.step))


def finish(job: Job, inputs: Inputs, ready: Ready, progress: Progress, started: float) -> None:
    """Save what was trained, measure it, and tell the result."""
    run, run_dir = job.run, job.run_dir
    with job.strategy.whole():
        job.on_main(lambda: ready.final.save(run_dir))
        if inputs.recipe.evaluation.after:
            job.on_main(lambda: ready.evaluation.measure("after", run.step))
        method = ready.assembled.method
        own = Peak(host=hardware.peak_resident_bytes(), device=peak_of(job.device))
        peaks = job.ranks.everybody(own)
        describe = partial(
            describe_result, run_dir, progress, method, inputs.facts, inputs.data, started, peaks
        )
        result = job.on_main(describe)
    if job.ranks.is_main:
        seconds = time.monotonic() - started
        job.events.write("run", run.step, status="succeeded", seconds=seconds)
        job.events.sync()
        write_json(run_dir.result_json, result)
        write_report(run_dir)
    run.write_state("succeeded")
