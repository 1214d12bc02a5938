"""The steps of a run, from the newest checkpoint on, with what happens between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from tunesmith.core.errors import TunesmithError
from tunesmith.methods.base import AppliedMethod, RemembersSteps, Shape
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.inputs import Inputs
from tunesmith.run.job import Job
from tunesmith.run.planned import Planned
from tunesmith.run.ready import Ready, optimizer_of
from tunesmith.training.checkpoint import (
    Progress,
    TrainingState,
    begin_parts,
    find_newest,
    method_state,
    missing_best,
    prune,
    read_checkpoint,
    write_checkpoint,
    write_parts,
)
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.telling import tell_step

CHECKPOINTS_PER_RUN = 5


def make_steps(job: Job, inputs: Inputs, planned: Planned, ready: Ready) -> Progress:
    """Make every step that is left.

    Raises:
        StoppedEarly: the run was asked to stop; what was done is in a checkpoint.
        RunError: a loss is not a number, a disk is full, memory ran out.
    """
    recipe, assembled, part = inputs.recipe, ready.assembled, inputs.recipe.training
    method, total = assembled.method, len(planned.steps)
    optimizer = optimizer_of(recipe, assembled)
    torch.manual_seed(part.seed)  # dropout draws from here; a checkpoint brings its own state
    job.strategy.begin(assembled.model, assembled.scored, method, optimizer)
    progress = go_on(job, method, optimizer)
    saver = Saver(job, recipe, method, optimizer, ready.shapes)
    with job.stop.held_back(), job.ranks.stepping():
        steps = train_steps(
            assembled.scored,
            method,
            optimizer,
            inputs.data.train,
            planned.steps,
            part,
            peak_rate=recipe.learning_rate,
            pad_id=inputs.pad_id,
            first_step=progress.step + 1,
            objective=ready.objective,
            micro_batch_limit=progress.micro_batch_limit,
            strategy=job.strategy,
        )
        for done in steps:
            job.run.step = done.step
            progress = advance(progress, done)
            tell_done(job, done, log_every=part.log_every)
            saving = is_due(done.step, checkpoint_interval(recipe, total), total)
            if is_due(done.step, part.evaluate_every, None) and planned.held_out:
                progress = watch(job, ready, progress)
                saving = job.ranks.share(progress.is_best) or saving  # whatever the intervals are
            stopping = job.is_asked_to_stop()
            if saving or stopping:
                saver.save(progress)
            job.run.beat()
            job.trackers.look()
            if stopping:  # a request since then waits for the next step, which is saved
                job.stop.check()
    job.stop.check()
    return progress


def go_on(job: Job, method: AppliedMethod, optimizer: torch.optim.Optimizer) -> Progress:
    """Put back the newest checkpoint that is whole, on every rank, and say so."""
    ranks, folder = job.ranks, job.whole_run.checkpoints
    found = find_newest(folder, tell=job.run.warn) if ranks.is_main else None
    # its name: each machine may have the run's folder at a place of its own
    newest = ranks.share(None if found is None else found.name)
    if newest is None:
        return Progress(step=0)
    progress, training = read_checkpoint(folder / newest, method.trainable)
    job.strategy.put_back(training, method, optimizer)
    if isinstance(method, RemembersSteps):
        method.put_back(method_state(folder, progress.step))
    job.run.step = progress.step
    message = f"going on after step {progress.step}"
    job.events.write("run", progress.step, status="resumed", message=message)
    if ranks.is_main and (gone := missing_best(folder, progress)):
        job.run.warn(gone)
    return progress


def advance(progress: Progress, done: StepDone) -> Progress:
    """Add a step to what has been done."""
    return replace(
        progress,
        step=done.step,
        tokens=progress.tokens + done.outcome.tokens,
        supervised_tokens=progress.supervised_tokens + done.outcome.supervised_tokens,
        seconds=progress.seconds + done.seconds,
        micro_batch_limit=done.micro_batch_limit,
    )


def tell_done(job: Job, done: StepDone, *, log_every: int) -> None:
    """Write a step's warnings, and its numbers where they are due."""
    for warning in done.warnings:
        job.run.warn(warning)
    if is_due(done.step, log_every, done.total_steps):
        tell_step(job.events, done, job.device)


def watch(job: Job, ready: Ready, progress: Progress) -> Progress:
    """Measure the held-out loss between two steps; what comes back counts on rank 0 only."""
    with job.strategy.whole():
        return job.on_main(partial(ready.evaluation.watch, progress)) or progress


def checkpoint_interval(recipe: Recipe, total_steps: int) -> int:
    """The recipe's number of steps between checkpoints, or a fifth of the run."""
    return recipe.training.checkpoint_every or max(1, total_steps // CHECKPOINTS_PER_RUN)


def is_due(step: int, every: int | None, last: int | None) -> bool:
    """Whether something that happens every so many steps, and at the last one, happens now."""
    return step == last or (every is not None and step % every == 0)


@dataclass(frozen=True, eq=False)
class Saver:
    """Writes checkpoints of what is trained."""

    job: Job
    recipe: Recipe
    method: AppliedMethod
    optimizer: torch.optim.Optimizer
    shapes: Mapping[str, Shape]

    def save(self, progress: Progress) -> None:
        """Write a checkpoint and delete those that are beyond the limit.

        Raises:
            RunError: the disk is full, or what was written is not whole.
        """
        training = self.job.strategy.state(self.method, self.optimizer)
        parts = None if training.rows is None else self._write_parts(progress, training)
        self.job.on_main(lambda: self._write(progress, training, parts))

    def _write_parts(self, progress: Progress, training: TrainingState) -> Path:
        """Write every rank's own part, into a folder that rank 0 has made."""
        ranks, folder = self.job.ranks, self.job.whole_run.checkpoints
        parts = ranks.share(self.job.on_main(lambda: begin_parts(folder, progress.step)))
        assert parts is not None, "rank 0 has made it"
        failed: TunesmithError | None = None
        with ranks.patient():
            try:
                write_parts(parts, training, rank=ranks.place.rank, size=ranks.size)
            except TunesmithError as error:
                failed = error
            ranks.raise_first(failed)
        return parts

    def _write(self, progress: Progress, training: TrainingState, parts: Path | None) -> None:
        folder, keep = self.job.whole_run.checkpoints, self.recipe.training.keep_checkpoints
        self.job.events.sync()  # a run that goes on from here tells no earlier step again
        state = self.method.state if isinstance(self.method, RemembersSteps) else None
        write_checkpoint(folder, progress, training, state, self.shapes, parts)
        prune(folder, keep=keep, held_out=progress.held_out)
        path = f"checkpoints/step-{progress.step}"
        self.job.events.write("checkpoint", progress.step, path=path)
