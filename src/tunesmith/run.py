"""The composition root: carries out the recipe in a run folder, from data to report.

`python -m tunesmith.run FOLDER` reads the folder's `resolved.json`, writes everything else of the
run folder, and ends with 0 (done), 2 (a fault of the user's), 3 (failed), 75 or 130 (stopped
early). Started again on the same folder, it goes on from the newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from tunesmith.core import hardware
from tunesmith.core.allocator import keep_freed_memory
from tunesmith.core.errors import Fault, RecipeError, TunesmithError
from tunesmith.core.events import EventLog
from tunesmith.core.failures import as_run_error
from tunesmith.core.log import set_up_logging
from tunesmith.core.memory_bound import bound_memory
from tunesmith.core.run_dir import (
    RunDir,
    RunState,
    RunStatus,
    disk_error,
    read_json,
    write_json,
)
from tunesmith.core.stopping import StoppedEarly, StopRequests
from tunesmith.data.asked import reading_record
from tunesmith.data.pack import StepPlan, plan_steps
from tunesmith.data.pipeline import RunData, check_data, lay_out
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.evaluation.held_out import preference_groups
from tunesmith.evaluation.held_out_rows import HeldOutRows, held_out_examples
from tunesmith.evaluation.report import write_report
from tunesmith.evaluation.result import describe_result
from tunesmith.methods.base import AppliedMethod, RemembersSteps
from tunesmith.methods.base_record import write_base_record
from tunesmith.methods.going_on import check_starting_base, starting_adapter
from tunesmith.methods.switching import adapters_off
from tunesmith.methods.trained import describe_trained
from tunesmith.models.facts import ModelFacts, is_decoder, model_type, read_facts, require_writer
from tunesmith.models.head_file import write_head
from tunesmith.models.headed import Head
from tunesmith.models.load import DTYPES, choose_dtype
from tunesmith.models.prepare import PreparedModel, prepare_model
from tunesmith.recipe.adapter_config import CONFIG_FILE
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.task import Task, TaskName, has_head, rows_for
from tunesmith.tasks.scores.table import require_libraries
from tunesmith.training.assemble import assemble
from tunesmith.training.checkpoint import (
    Progress,
    load_newest,
    method_state,
    prune,
    save_checkpoint,
)
from tunesmith.training.environment import compare_environments, describe_environment
from tunesmith.training.head_setup import class_names, head_of
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.memory_decision import require_machine
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.preference_setup import Measurable, make_objectives, units_of
from tunesmith.training.rehearsal import rehearse_saving, room_of
from tunesmith.training.schedule import count_warmup_steps
from tunesmith.training.telling import examine_data, tell_data, tell_plan, tell_step

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
CHECKPOINTS_PER_RUN = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """The process of a run; returns its exit code."""
    (folder,) = arguments or sys.argv[1:]
    set_up_logging()
    keep_freed_memory()
    torch.set_num_threads(hardware.cpu_count())
    run_dir = RunDir.open(folder)
    stop = StopRequests(run_dir)
    with EventLog(run_dir.events_jsonl) as events:
        run = Run(run_dir, events)
        try:
            stop.listen()
            execute(run, stop)
        except StoppedEarly as request:
            run.write_state("stopped", message=request.reason)
            events.write("run", run.step, status="stopped", message=request.reason)
            return request.exit_code
        except BaseException as error:
            return run.fail(error)
    return 0


@dataclass
class Run:
    """The run's own record: where it stands, told to the run folder."""

    run_dir: RunDir
    events: EventLog
    step: int = 0
    total_steps: int | None = None
    _last_heartbeat: float = 0.0

    def write_state(self, status: RunStatus, *, message: str = "", error_code: str = "") -> None:
        """Replace state.json."""
        self._last_heartbeat = time.time()
        state = RunState(
            status=status,
            pid=os.getpid(),
            heartbeat=self._last_heartbeat,
            step=self.step,
            total_steps=self.total_steps,
            message=message,
            error_code=error_code,
        )
        self.run_dir.write_state(state)

    def beat(self) -> None:
        """Show a sign of life, at most once a second."""
        if time.time() - self._last_heartbeat >= HEARTBEAT_S:
            self.write_state("running")

    def fail(self, error: BaseException) -> int:
        """Write down why the run failed; returns the exit code."""
        known = as_run_error(error, self.run_dir)
        log.error("%s", "".join(traceback.format_exception(error)))
        faults = [asdict(fault) for fault in known.faults]
        with suppress(TunesmithError, OSError):  # the disk may be what failed
            self.events.write(
                "error", self.step, code=known.code, exit_code=known.exit_code, faults=faults
            )
        with suppress(TunesmithError, OSError):
            self.write_state("failed", message=known.faults[0].found, error_code=known.code)
        return known.exit_code


def execute(run: Run, stop: StopRequests) -> None:
    """Data, model, method, before, steps, after, report."""
    run_dir, events = run.run_dir, run.events
    recipe = recipe_from_resolved(run_dir.resolved_json)
    part = recipe.training
    run.write_state("running")
    events.write("run", status="running", pid=os.getpid())
    started = time.monotonic()

    def tell(text: str) -> None:
        note(events, text)

    require_libraries(recipe.task, recipe.evaluation.metrics)
    # every row, before a model is fetched
    check_data(recipe.data, rows_for(recipe.task), tell=tell)
    prepared = prepare_model(recipe.model.source, recipe.model.revision, on_progress=tell)
    if starting := starting_adapter(recipe.method):
        tell_starting(run, starting, prepared)
    rows_are_for = rows_for_model(recipe.task, prepared.folder)
    facts = read_facts(prepared.folder)
    recipe = within_positions(recipe, run, facts)
    source = TokenizerSource(str(prepared.folder), tuple(recipe.model.token_overrides.items()))
    tokenizer = source.tokenizer
    data = lay_out(recipe.data, rows_are_for, source, tell=tell)
    labels = class_names(recipe.task, data)
    write_json(run_dir.reading_json, reading_record(data.train_side.file.judgement, labels))
    tell_data(run_dir, events, data)
    examine_data(run_dir, events, data, source, recipe.model.source)
    head = keep_head(recipe.task, data, run_dir)
    plan = plan_training(recipe, data)
    held_out = held_out_examples(recipe.task, recipe.evaluation, data)
    held_out_units = units_of(recipe.task, held_out, file=recipe.data.train, is_trained=False)
    run.total_steps = len(plan)
    dtype = choose_dtype(recipe.model)
    keep_environment(run, prepared, data, tokenizer, dtype, recipe)

    lengths = data.train.lengths.tolist()
    memory = require_machine(recipe, facts, plan, lengths, DTYPES[dtype])
    if memory.warning:
        events.write("warning", message=memory.warning)

    assembled = assemble(
        prepared.folder,
        facts,
        recipe,
        tokenizer,
        head,
        steps=len(plan),
        recompute=memory.recompute,
        tell=tell,
    )
    model, method, scored = assembled.model, assembled.method, assembled.scored
    tell_plan(run_dir, events, part, plan, lengths, method, facts, dtype, memory)
    tell(describe_trained(method, model))
    bound_memory()
    model_bytes = facts.parameters * DTYPES[dtype].itemsize
    rehearse(run, recipe, method, tokenizer, prepared, model_bytes, head)
    objectives = make_objectives(
        recipe.task,
        scored,
        {
            "train": Measurable(data.train, [group for s in plan for group in s.micro_batches]),
            "validation": Measurable(held_out, preference_groups(held_out_units)),
        },
        run_dir.path,
        pad_id=pad_id(tokenizer),
        tell=tell,
        head=assembled.head_objective,
    )
    evaluation = HeldOutRows(
        run_dir=run_dir,
        events=events,
        task=recipe.task,
        data=recipe.data,
        part=recipe.evaluation,
        rows=held_out,
        units=held_out_units,
        objective=objectives["validation"],
        tokenizer=tokenizer,
        model=model,
        scored=scored,
        headed=assembled.headed,
        labels=labels,
        pad_id=pad_id(tokenizer),
    )
    if recipe.evaluation.before and not evaluation.has("before"):
        # what a run goes on from is the adapter's work so far, too
        with nullcontext() if starting else adapters_off(model):
            evaluation.measure("before", run.step)

    optimizer = make_optimizer(
        method.trainable,
        part,
        learning_rate=recipe.learning_rate,
        rate_factors=method.rate_factors,
    )
    torch.manual_seed(part.seed)  # dropout draws from here; a checkpoint brings its own state
    progress = load_newest(run_dir.checkpoints, method.trainable, optimizer)
    if progress is None:
        progress = Progress(step=0)
    else:
        if isinstance(method, RemembersSteps):
            method.put_back(method_state(run_dir.checkpoints, progress.step))
        method.publish()
        run.step = progress.step
        events.write("run", run.step, status="resumed", message=f"going on after step {run.step}")

    with stop.held_back():
        steps = train_steps(
            scored,
            method,
            optimizer,
            data.train,
            plan,
            part,
            peak_rate=recipe.learning_rate,
            pad_id=pad_id(tokenizer),
            first_step=progress.step + 1,
            objective=objectives["train"],
            micro_batch_limit=progress.micro_batch_limit,
        )
        for done in steps:
            run.step = done.step
            progress = advance(progress, done)
            for warning in done.warnings:
                events.write("warning", done.step, message=warning)
            if is_due(done.step, part.log_every, len(plan)):
                tell_step(events, done)
            if is_due(done.step, part.evaluate_every, None) and held_out:
                progress = evaluation.watch(progress)
            stopping = stop.is_asked()
            if stopping or is_due(done.step, checkpoint_interval(recipe, len(plan)), len(plan)):
                save(run, progress, recipe, method, optimizer)
            run.beat()
            stop.check()
    stop.check()
    save_final(run_dir, method, tokenizer, prepared, head)

    if recipe.evaluation.after:
        evaluation.measure("after", run.step)
    events.write("run", run.step, status="succeeded", seconds=time.monotonic() - started)
    write_json(
        run_dir.result_json,
        describe_result(run_dir, progress, method, facts, data, started),
    )
    write_report(run_dir)
    run.write_state("succeeded")


def note(events: EventLog, message: str) -> None:
    """Tell people something."""
    events.write("note", message=message)


def tell_starting(run: Run, folder: Path, prepared: PreparedModel) -> None:
    """Say what the run goes on from, and whether it belongs to the base.

    Raises:
        ModelError: the adapter was trained on other weights.
    """
    warning = check_starting_base(folder, prepared)
    if warning:
        run.events.write("warning", message=warning)
    note(run.events, f"going on from the adapter in {folder}; before: the base with it")


def within_positions(recipe: Recipe, run: Run, facts: ModelFacts) -> Recipe:
    """Keep rows within the model's positions: a default gives way, another length is refused."""
    if facts.max_positions is None:
        return recipe
    prompt = getattr(recipe.method, "virtual_tokens", None) or 0
    limit = facts.max_positions - prompt
    if recipe.data.max_length <= limit:
        return recipe
    origins = read_json(run.run_dir.resolved_json)["origins"]
    if origins.get("data.max_length") == "default":
        note(run.events, f"data.max_length is {limit} here: the model has no more positions")
        data = recipe.data.model_copy(update={"max_length": limit})
        return recipe.model_copy(update={"data": data})
    fault = Fault(
        found=f"{recipe.data.max_length} tokens a row; {recipe.model.source} has {limit} positions"
        + (f" beside the prompt's {prompt}" if prompt else ""),
        where="recipe: data.max_length",
        fix=f"set data.max_length to at most {limit}",
    )
    raise RecipeError(fault)


def rows_for_model(task: Task, folder: Path) -> TaskName:
    """Return what rows are read for by a folder's model.

    Raises:
        ModelError: it writes no text, and the task has no head.
    """
    rows_are_for = rows_for(task)
    if not has_head(task):
        require_writer(folder)
    elif rows_are_for == "ner-head" and is_decoder(model_type(folder)):
        return "ner-head-causal"
    return rows_are_for


def keep_head(task: Task, data: RunData, run_dir: RunDir) -> Head | None:
    """Return what the model's head is to say, where the task has one, and write it down."""
    if not has_head(task):
        return None
    head = head_of(task, data)
    write_head(run_dir.path, head)
    return head


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


def pad_id(tokenizer: Tokenizer) -> int:
    """Any id will do: padding is known by its position, never by its id."""
    known = tokenizer.pad_token_id
    return 0 if known is None else known


def checkpoint_interval(recipe: Recipe, total_steps: int) -> int:
    """The recipe's number of steps between checkpoints, or a fifth of the run."""
    return recipe.training.checkpoint_every or max(1, total_steps // CHECKPOINTS_PER_RUN)


def is_due(step: int, every: int | None, last: int | None) -> bool:
    """Whether something that happens every so many steps, and at the last one, happens now."""
    return step == last or (every is not None and step % every == 0)


def keep_environment(
    run: Run,
    prepared: PreparedModel,
    data: RunData,
    tokenizer: Tokenizer,
    dtype: str,
    recipe: Recipe,
) -> None:
    """Write environment.json; a resumed run compares with what was written first."""
    now = describe_environment(
        prepared=prepared,
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
        base=recipe.model.base,
        seed=recipe.training.seed,
    )
    file = run.run_dir.environment_json
    if file.exists():
        for difference in compare_environments(read_json(file), now):
            run.events.write("warning", run.step, message=difference)
        return
    write_json(file, now)


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


def save(
    run: Run,
    progress: Progress,
    recipe: Recipe,
    method: AppliedMethod,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint and delete those that are beyond the limit."""
    folder = run.run_dir.checkpoints
    if (folder / f"step-{progress.step}").exists():
        return
    state = method.state if isinstance(method, RemembersSteps) else None
    save_checkpoint(folder, progress, method.trainable, optimizer, state)
    prune(folder, keep=recipe.training.keep_checkpoints, held_out=progress.held_out)
    run.events.write("checkpoint", progress.step, path=f"checkpoints/step-{progress.step}")


def save_final(
    run_dir: RunDir,
    method: AppliedMethod,
    tokenizer: Tokenizer,
    prepared: PreparedModel,
    head: Head | None,
) -> None:
    """Write `final/` under another name first, so that it is there whole or not at all."""
    temporary = run_dir.path / ".final.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        write_final(temporary, method, tokenizer, prepared, head)
        shutil.rmtree(run_dir.final, ignore_errors=True)
        temporary.rename(run_dir.final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise disk_error(run_dir.final, error) from error
    except TunesmithError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_final(
    folder: Path,
    method: AppliedMethod,
    tokenizer: Tokenizer,
    prepared: PreparedModel,
    head: Head | None,
) -> None:
    """Write the files of `final/`."""
    method.save(folder, base=base_reference(prepared))
    if (folder / CONFIG_FILE).is_file():  # an adapter, which is nothing without its base
        write_base_record(folder, prepared)
    if head is not None:
        write_head(folder, head)
    tokenizer.save_pretrained(folder)


def rehearse(
    run: Run,
    recipe: Recipe,
    method: AppliedMethod,
    tokenizer: Tokenizer,
    prepared: PreparedModel,
    model_bytes: int,
    head: Head | None,
) -> None:
    """Save once before anything is trained."""

    def save(folder: Path) -> None:
        write_final(folder, method, tokenizer, prepared, head)

    room = room_of(recipe, method, model_bytes=model_bytes)
    warning = rehearse_saving(run.run_dir.path, method, room, save)
    if warning:
        run.events.write("warning", message=warning)


def base_reference(prepared: PreparedModel) -> str:
    """How adapter files name the base: a hub id where there is one, else the folder."""
    hub_id = prepared.origin.get("id")
    return str(hub_id) if hub_id else str(prepared.folder)


if __name__ == "__main__":
    sys.exit(main())
