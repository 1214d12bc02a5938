"""The composition root: carries out the recipe in a run folder, from data to report.

`python -m tunesmith.run FOLDER` reads the folder's `resolved.json`, writes everything else of the
run folder, and ends with 0 (done), 2 (a fault of the user's), 3 (failed), 75 or 130 (stopped
early). Started again on the same folder, it goes on from the newest checkpoint.

A recipe whose strategy asks for several processes is carried out by as many of these, its ranks,
each with its number in its environment (core/rank_place.py). Rank 0 writes the run folder and
evaluates; the others have a folder of their own in it, and every rank makes the same steps.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from tunesmith.core import hardware
from tunesmith.core.allocator import keep_freed_memory
from tunesmith.core.errors import Fault, RecipeError, TunesmithError
from tunesmith.core.events import EventLog
from tunesmith.core.log import set_up_logging
from tunesmith.core.memory_bound import bound_memory
from tunesmith.core.rank_failures import cause_of
from tunesmith.core.rank_place import ALONE, RankPlace, rank_place
from tunesmith.core.run_dir import RunDir, clear_half_written, read_json, write_json
from tunesmith.core.run_lock import hold_run
from tunesmith.core.run_record import Run
from tunesmith.core.stopping import INTERRUPTED, PAUSED, StoppedEarly, StopRequests
from tunesmith.data.asked import reading_record
from tunesmith.data.pack import StepPlan, plan_steps
from tunesmith.data.pipeline import RunData, check_data, lay_out
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.evaluation.held_out import preference_groups
from tunesmith.evaluation.held_out_rows import HeldOutRows, held_out_examples
from tunesmith.evaluation.report import write_report
from tunesmith.evaluation.result import describe_result
from tunesmith.methods.base import AppliedMethod, RemembersSteps, Shape
from tunesmith.methods.going_on import check_starting_base, starting_adapter
from tunesmith.methods.switching import adapters_off
from tunesmith.methods.trained import describe_trained
from tunesmith.models.facts import ModelFacts, read_facts
from tunesmith.models.head_file import write_head
from tunesmith.models.headed import Head
from tunesmith.models.load import DTYPES, choose_dtype
from tunesmith.models.prepare import PreparedModel, prepare_model
from tunesmith.models.rows_for_model import rows_for_model
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.recipe import Recipe
from tunesmith.recipe.strategy import num_processes
from tunesmith.recipe.target import RayTarget
from tunesmith.recipe.task import Task, has_head, rows_for
from tunesmith.tasks.scores.table import require_libraries
from tunesmith.tracking.beside import Trackers, start_trackers
from tunesmith.training.assemble import assemble
from tunesmith.training.batch_plan import plan_batch
from tunesmith.training.checkpoint import (
    Progress,
    find_newest,
    method_state,
    missing_best,
    prune,
    read_checkpoint,
    write_checkpoint,
)
from tunesmith.training.complete import shapes_of
from tunesmith.training.environment import compare_environments, describe_environment
from tunesmith.training.final_folder import FinalFolder
from tunesmith.training.head_setup import class_names, head_of
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.memory_decision import require_machine
from tunesmith.training.optimizer import head_rate_factors, make_optimizer
from tunesmith.training.preference_setup import Measurable, make_objectives, units_of
from tunesmith.training.rehearsal import rehearse_saving, room_of
from tunesmith.training.schedule import count_warmup_steps
from tunesmith.training.strategies.base import Strategy
from tunesmith.training.strategies.ranks import ONE_RANK, Ranks, leave
from tunesmith.training.strategies.start import (
    make_strategy,
    meet,
    require_place,
    require_strategy,
    strategy_warnings,
)
from tunesmith.training.telling import examine_data, tell_data, tell_plan, tell_step

Value = TypeVar("Value")
log = logging.getLogger(__name__)

CHECKPOINTS_PER_RUN = 5
# A launcher ends what is left of a run a little later than this.
RANKS_WAIT_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The process of a run, or of one rank of it; returns its exit code."""
    (folder,) = arguments or sys.argv[1:]
    set_up_logging()
    keep_freed_memory()
    run_dir = RunDir.open(folder)
    try:
        place = rank_place()
        recipe = recipe_from_resolved(run_dir.resolved_json)
    except TunesmithError as error:
        with EventLog(run_dir.events_jsonl) as events:
            return Run(run_dir, events).fail(error)
    if place is None and (starter := starter_of(recipe)) is not None:
        os.execv(sys.executable, [sys.executable, "-m", starter, str(run_dir.path)])
    try:
        with nullcontext() if place is not None and place.rank else hold_run(run_dir):
            return run_rank(run_dir, place or ALONE)
    except TunesmithError as error:  # the folder is another process's, or takes no word
        log.error("%s", error)
        return error.exit_code


def starter_of(recipe: Recipe) -> str | None:
    """Return the module that starts the recipe's ranks; None where this process is all of it."""
    if isinstance(recipe.target, RayTarget):
        return "tunesmith.platforms.ray"
    return "tunesmith.launch" if num_processes(recipe.strategy) > 1 else None


def run_rank(run_dir: RunDir, place: RankPlace) -> int:
    """Carry out the recipe as one of its ranks; returns the exit code."""
    own = run_dir.of_rank(place.rank)
    if place.rank:
        own.path.mkdir(parents=True, exist_ok=True)
        send_output_to(own.log)
    torch.set_num_threads(place.cores or max(1, hardware.cpu_count() // place.local_size))
    stop, trackers = StopRequests(run_dir), Trackers()
    with EventLog(own.events_jsonl) as events:
        run, ranks = Run(own, events), ONE_RANK
        try:
            stop.listen()
            recipe = recipe_from_resolved(run_dir.resolved_json)
            require_place(recipe, place)
            ranks = meet(recipe, place, run_dir, run.fail_by)
            if ranks.is_main:
                clear_half_written(own.path)
                trackers = start_trackers(recipe.tracking, own, run.warn)
            execute(run, stop, run_dir, recipe, make_strategy(recipe, ranks), trackers)
            leave(ranks)
        except StoppedEarly as request:
            run.write_state("stopped", message=request.reason)
            events.write("run", run.step, status="stopped", message=request.reason)
            leave(ranks)
            return request.exit_code
        except BaseException as error:
            return run.fail(cause_of(error, run_dir, rank=place.rank, size=place.size))
        finally:
            with stop.held_back():
                trackers.finish(most_s=RANKS_WAIT_S if place.size > 1 else math.inf)
    return 0


def execute(
    run: Run,
    stop: StopRequests,
    whole_run: RunDir,
    recipe: Recipe,
    strategy: Strategy,
    trackers: Trackers,
) -> None:
    """Data, model, method, before, steps, after, report.

    `run` is this rank's own record; `whole_run` is the folder of the run, which rank 0 writes.
    """
    run_dir, events = run.run_dir, run.events
    part, ranks = recipe.training, strategy.ranks
    run.write_state("running")
    events.write("run", status="running", pid=os.getpid())
    started = time.monotonic()

    def tell(text: str) -> None:
        note(events, text)

    with ranks.main_first():  # what it fetches and prepares, the others find
        if ranks.is_main:
            require_libraries(recipe.task, recipe.evaluation.metrics)
            # every row, before a model is fetched
            check_data(recipe.data, rows_for(recipe.task), tell=tell)
        prepared = prepare_model(recipe.model.source, recipe.model.revision, on_progress=tell)
        if starting := starting_adapter(recipe.method):
            tell_starting(run, starting, prepared)
        rows_are_for = rows_for_model(recipe.task, prepared.folder)
        facts = read_facts(prepared.folder)
        recipe = within_positions(recipe, run, whole_run, facts)
        source = TokenizerSource(
            str(prepared.folder),
            tuple(recipe.model.token_overrides.items()),
            recipe.model.chat_template,
        )
        tokenizer = source.tokenizer
        keep_texts = recipe.evaluation.trained_rows > 0
        data = lay_out(recipe.data, rows_are_for, source, tell=tell, keep_texts=keep_texts)
    labels = class_names(recipe.task, data)
    write_json(run_dir.reading_json, reading_record(data.train_side.file.judgement, labels))
    tell_data(run_dir, events, data)
    on_main(ranks, lambda: examine_data(run_dir, events, data, source, recipe.model.source))
    head = keep_head(recipe.task, data, run_dir)
    plan = plan_training(recipe, data)
    held_out = held_out_examples(recipe.task, recipe.evaluation, data)
    held_out_units = units_of(recipe.task, held_out, file=recipe.data.train, is_trained=False)
    run.total_steps = len(plan)
    dtype = choose_dtype(recipe.model)
    require_strategy(recipe, dtype)
    keep_environment(run, prepared, data, tokenizer, dtype, recipe, ranks.size)

    lengths = data.train.lengths.tolist()
    memory = require_machine(
        recipe,
        facts,
        plan,
        lengths,
        DTYPES[dtype],
        num_ranks=ranks.size,
        ranks_here=ranks.place.local_size,
    )
    for warning in (memory.warning, *strategy_warnings(recipe, ranks.size, plan)):
        if warning:
            events.write("warning", message=warning)

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
    origins = read_json(whole_run.resolved_json)["origins"]
    batch = plan_batch(recipe, plan, ranks.size, origins)
    tell_plan(run_dir, events, part, plan, lengths, method, facts, dtype, memory, batch)
    tell(describe_trained(method, model))
    bound_memory(ranks.place.local_size)
    model_bytes = facts.parameters * DTYPES[dtype].itemsize
    final = FinalFolder(method, tokenizer, prepared, head, method.saved_shapes())
    shapes = shapes_of(method.trainable)
    on_main(ranks, lambda: rehearse(run, recipe, final, model_bytes))
    with ranks.main_first():
        objectives = make_objectives(
            recipe.task,
            scored,
            {
                "train": Measurable(data.train, [group for s in plan for group in s.micro_batches]),
                "validation": Measurable(held_out, preference_groups(held_out_units)),
            },
            whole_run.path,
            pad_id=pad_id(tokenizer),
            tell=tell,
            head=assembled.head_objective,
        )
    evaluation = HeldOutRows(
        run_dir=run_dir,
        events=events,
        task=recipe.task,
        data=data,
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
    if recipe.evaluation.before and not ranks.share(evaluation.has("before")):
        # what a run goes on from is the adapter's work so far, too
        with nullcontext() if starting else adapters_off(model):
            on_main(ranks, lambda: evaluation.measure("before", run.step))

    optimizer = make_optimizer(
        method.trainable,
        part,
        learning_rate=recipe.learning_rate,
        rate_factors={
            **method.rate_factors,
            **head_rate_factors(
                method.trainable, assembled.headed.new if assembled.headed else (), part
            ),
        },
    )
    torch.manual_seed(part.seed)  # dropout draws from here; a checkpoint brings its own state
    strategy.begin(model, scored, method, optimizer)
    progress = go_on(strategy, whole_run, method, optimizer, run.warn) or Progress(step=0)
    if progress.step:
        run.step = progress.step
        events.write("run", run.step, status="resumed", message=f"going on after step {run.step}")
        if gone := missing_best(whole_run.checkpoints, progress):
            run.warn(gone)

    with stop.held_back(), ranks.stepping():
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
            strategy=strategy,
        )
        for done in steps:
            run.step = done.step
            progress = advance(progress, done)
            for warning in done.warnings:
                events.write("warning", done.step, message=warning)
            if is_due(done.step, part.log_every, len(plan)):
                tell_step(events, done)
            saving = is_due(done.step, checkpoint_interval(recipe, len(plan)), len(plan))
            if is_due(done.step, part.evaluate_every, None) and held_out:
                with strategy.whole():
                    progress = on_main(ranks, partial(evaluation.watch, progress)) or progress
                saving = ranks.share(progress.is_best) or saving  # whatever the intervals are
            stopping = is_asked_anywhere(stop, ranks)
            if saving or stopping:
                save(run, whole_run, progress, recipe, strategy, method, optimizer, shapes)
            run.beat()
            trackers.look()
            if stopping:  # a request since then waits for the next step, which is saved
                stop.check()
    stop.check()
    with strategy.whole():
        on_main(ranks, lambda: final.save(run_dir))
        if recipe.evaluation.after:
            on_main(ranks, lambda: evaluation.measure("after", run.step))
        result = on_main(
            ranks, partial(describe_result, run_dir, progress, method, facts, data, started)
        )
    if not ranks.is_main:
        run.write_state("succeeded")
        return
    events.write("run", run.step, status="succeeded", seconds=time.monotonic() - started)
    write_json(run_dir.result_json, result)
    write_report(run_dir)
    run.write_state("succeeded")


def on_main(ranks: Ranks, work: Callable[[], Value]) -> Value | None:
    """Do something on rank 0, with the cores of all ranks here, while the other ranks wait."""
    with ranks.patient():
        found = None
        if ranks.is_main:
            threads = torch.get_num_threads()
            own = ranks.place.cores
            torch.set_num_threads(own * ranks.place.local_size if own else hardware.cpu_count())
            found = work()
            torch.set_num_threads(threads)
        ranks.wait()
    return found


def is_asked_anywhere(stop: StopRequests, ranks: Ranks) -> bool:
    """Whether any rank was asked to stop; then all of them are."""
    code = stop.asked_code()
    interrupted, paused = ranks.sums([code == INTERRUPTED, code == PAUSED])
    if interrupted or paused:
        stop.ask(INTERRUPTED if interrupted else PAUSED, "another rank was asked to stop")
    return bool(interrupted or paused)


def go_on(
    strategy: Strategy,
    run_dir: RunDir,
    method: AppliedMethod,
    optimizer: torch.optim.Optimizer,
    warn: Callable[[str], None],
) -> Progress | None:
    """Put back the newest checkpoint that is whole, on every rank; None where there is none."""
    ranks = strategy.ranks
    newest = ranks.share(find_newest(run_dir.checkpoints, tell=warn) if ranks.is_main else None)
    if newest is None:
        return None
    progress, training = read_checkpoint(newest, method.trainable)
    strategy.put_back(training, method, optimizer)
    if isinstance(method, RemembersSteps):
        method.put_back(method_state(run_dir.checkpoints, progress.step))
    return progress


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


def within_positions(recipe: Recipe, run: Run, whole_run: RunDir, facts: ModelFacts) -> Recipe:
    """Keep rows within the model's positions: a default gives way, another length is refused."""
    if facts.max_positions is None:
        return recipe
    prompt = getattr(recipe.method, "virtual_tokens", None) or 0
    limit = facts.max_positions - prompt
    if recipe.data.max_length <= limit:
        return recipe
    origins = read_json(whole_run.resolved_json)["origins"]
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
    num_ranks: int,
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
        ranks=num_ranks,
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
    whole_run: RunDir,
    progress: Progress,
    recipe: Recipe,
    strategy: Strategy,
    method: AppliedMethod,
    optimizer: torch.optim.Optimizer,
    shapes: Mapping[str, Shape],
) -> None:
    """Write a checkpoint and delete those that are beyond the limit."""
    folder, ranks = whole_run.checkpoints, strategy.ranks
    training = strategy.state(method, optimizer)
    state = method.state if isinstance(method, RemembersSteps) else None

    def write() -> None:
        write_checkpoint(folder, progress, training, state, shapes)
        prune(folder, keep=recipe.training.keep_checkpoints, held_out=progress.held_out)
        run.events.write("checkpoint", progress.step, path=f"checkpoints/step-{progress.step}")

    on_main(ranks, write)


def rehearse(run: Run, recipe: Recipe, final: FinalFolder, model_bytes: int) -> None:
    """Save once before anything is trained."""
    room = room_of(recipe, final.method, model_bytes=model_bytes)
    warning = rehearse_saving(run.run_dir.path, final.method, room, final.write)
    if warning:
        run.events.write("warning", message=warning)


def send_output_to(log: Path) -> None:
    """Append all that this process says to its own log."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
