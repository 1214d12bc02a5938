"""The composition root: carries out the recipe in a run folder, from data to report.

`python -m tunesmith.run FOLDER` reads the folder's `resolved.json`, writes everything else of the
run folder, and ends with 0 (done), 2 (a fault of the user's), 3 (failed), 75 or 130 (stopped
early). Started again on the same folder, it goes on from the newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tunesmith.core import hardware
from tunesmith.core.allocator import keep_freed_memory
from tunesmith.core.errors import Fault, RecipeError, RunError, TunesmithError
from tunesmith.core.events import EventLog, read_events
from tunesmith.core.log import set_up_logging
from tunesmith.core.run_dir import (
    RunDir,
    RunState,
    RunStatus,
    disk_error,
    read_json,
    write_json,
)
from tunesmith.core.stopping import StoppedEarly, StopRequests
from tunesmith.data.pack import StepPlan, plan_steps
from tunesmith.data.pipeline import LoadedData, RenderedData, load_data, render_data
from tunesmith.data.tokenizer import Tokenizer, load_tokenizer
from tunesmith.evaluation.before_after import When, measure, measure_loss, write_side
from tunesmith.evaluation.report import write_report
from tunesmith.inference.torch_engine import TorchEngine
from tunesmith.methods.base import AppliedMethod, count_trainable
from tunesmith.methods.select import apply_method
from tunesmith.models.facts import ModelFacts, read_facts
from tunesmith.models.load import choose_dtype, load_model
from tunesmith.models.prepare import PreparedModel, prepare_model
from tunesmith.recipe.load import recipe_from_resolved
from tunesmith.recipe.method import LoraMethod
from tunesmith.recipe.recipe import Recipe
from tunesmith.training.checkpoint import Progress, load_newest, prune, save_checkpoint
from tunesmith.training.environment import compare_environments, describe_environment, hash_file
from tunesmith.training.loop import StepDone, train_steps
from tunesmith.training.loss import LanguageModel, language_model
from tunesmith.training.optimizer import make_optimizer
from tunesmith.training.schedule import count_warmup_steps

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
CHECKPOINTS_PER_RUN = 5
DROPPED_FILE = "dropped.json"


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

    loaded = load_data(recipe.data, recipe.task.type)  # every row is checked before a model loads
    prepared = prepare_model(
        recipe.model.source, recipe.model.revision, on_progress=lambda text: note(events, text)
    )
    facts = read_facts(prepared.folder)
    recipe = within_positions(recipe, run, facts)
    tokenizer = load_tokenizer(prepared.folder)
    rendered = render_data(loaded, tokenizer, recipe.data, recipe.task.type)
    tell_data(run, loaded, rendered)
    plan = plan_training(recipe, rendered)
    run.total_steps = len(plan)
    dtype = choose_dtype(recipe.model)
    keep_environment(run, prepared, rendered, dtype, part.seed)

    model = load_model(prepared.folder, dtype)
    method = apply_method(model, recipe.method, seed=part.seed)
    scored = language_model(model, facts, share_prefix=shares_prefix(recipe))
    tell_plan(run, plan, rendered, method, facts, dtype)
    evaluation = HeldOutRows(run, recipe, rendered, tokenizer, model, scored)
    if recipe.evaluation.before and not evaluation.has("before"):
        evaluation.measure("before")

    optimizer = make_optimizer(method.trainable, part, learning_rate=recipe.learning_rate)
    torch.manual_seed(part.seed)  # dropout draws from here; a checkpoint brings its own state
    progress = load_newest(run_dir.checkpoints, method.trainable, optimizer)
    if progress is None:
        progress = Progress(step=0)
    else:
        method.publish()
        run.step = progress.step
        events.write("run", run.step, status="resumed", message=f"going on after step {run.step}")

    with stop.held_back():
        steps = train_steps(
            scored,
            method,
            optimizer,
            rendered.train,
            plan,
            part,
            peak_rate=recipe.learning_rate,
            pad_id=pad_id(tokenizer),
            first_step=progress.step + 1,
        )
        for done in steps:
            run.step = done.step
            progress = advance(progress, done)
            if is_due(done.step, part.log_every, len(plan)):
                tell_step(events, done)
            if is_due(done.step, part.evaluate_every, None) and rendered.validation:
                progress = evaluation.watch(progress)
            stopping = stop.is_asked()
            if stopping or is_due(done.step, checkpoint_interval(recipe, len(plan)), len(plan)):
                save(run, progress, recipe, method, optimizer)
            run.beat()
            stop.check()
    stop.check()
    save_final(run_dir, method, tokenizer, prepared)

    if recipe.evaluation.after:
        evaluation.measure("after")
    events.write("run", run.step, status="succeeded", seconds=time.monotonic() - started)
    write_json(
        run_dir.result_json,
        describe_result(run_dir, progress, method, facts, loaded, rendered, started),
    )
    write_report(run_dir)
    run.write_state("succeeded")


@dataclass
class HeldOutRows:
    """Measures the model on the rows that are never trained."""

    run: Run
    recipe: Recipe
    rendered: RenderedData
    tokenizer: Tokenizer
    model: Any
    scored: LanguageModel

    def has(self, when: When) -> bool:
        """Whether a run that is resumed has this side already."""
        file = self.run.run_dir.evaluation_json
        return file.exists() and when in read_json(file)

    def measure(self, when: When) -> None:
        """Measure loss, scores and answers, and keep them."""
        if not self.rendered.validation:
            return
        note(self.run.events, f"measuring {when} training: {len(self.rendered.validation)} rows")
        measured = measure(
            self.scored,
            TorchEngine(self.model, self.tokenizer),
            self.tokenizer,
            self.rendered.validation_samples,
            self.rendered.validation,
            data=self.recipe.data,
            part=self.recipe.evaluation,
            pad_id=pad_id(self.tokenizer),
        )
        write_side(self.run.run_dir, when, measured)
        values = {**measured.as_json(), "answers": len(measured.answers)}
        self.run.events.write("evaluation", self.run.step, when=when, **values)

    def watch(self, progress: Progress) -> Progress:
        """Measure the loss alone, between two steps."""
        held_out = measure_loss(
            self.scored, self.rendered.validation, pad_id=pad_id(self.tokenizer)
        )
        self.run.events.write(
            "evaluation", progress.step, loss=held_out.loss, perplexity=held_out.perplexity
        )
        return replace(progress, held_out={**progress.held_out, progress.step: held_out.loss})


def note(events: EventLog, message: str) -> None:
    """Tell people something."""
    events.write("note", message=message)


def within_positions(recipe: Recipe, run: Run, facts: ModelFacts) -> Recipe:
    """Keep rows within the model's positions: a default gives way, another length is refused."""
    limit = facts.max_positions
    if limit is None or recipe.data.max_length <= limit:
        return recipe
    origins = read_json(run.run_dir.resolved_json)["origins"]
    if origins.get("data.max_length") == "default":
        note(run.events, f"data.max_length is {limit} here: the model has no more positions")
        data = recipe.data.model_copy(update={"max_length": limit})
        return recipe.model_copy(update={"data": data})
    fault = Fault(
        found=f"{recipe.data.max_length} tokens a row; {recipe.model.source} has {limit} positions",
        where="recipe: data.max_length",
        fix=f"set data.max_length to at most {limit}",
    )
    raise RecipeError(fault)


def plan_training(recipe: Recipe, rendered: RenderedData) -> tuple[StepPlan, ...]:
    """Plan every step; a warm-up that does not fit is refused here, before weights are loaded."""
    part = recipe.training
    plan = plan_steps(
        [len(example.tokens) for example in rendered.train],
        epochs=part.epochs,
        max_steps=part.max_steps,
        tokens_per_step=part.tokens_per_step,
        micro_batch_tokens=part.micro_batch_tokens,
        seed=part.seed,
    )
    count_warmup_steps(part.warmup, total_steps=len(plan), peak=recipe.learning_rate)
    return plan


def shares_prefix(recipe: Recipe) -> bool:
    """With dropout each row draws its own mask, so nothing of a row is computed for all."""
    return not (isinstance(recipe.method, LoraMethod) and recipe.method.dropout)


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
    run: Run, prepared: PreparedModel, rendered: RenderedData, dtype: str, seed: int
) -> None:
    """Write environment.json; a resumed run compares with what was written first."""
    now = describe_environment(
        prepared=prepared,
        train=rendered.train,
        validation=rendered.validation,
        dtype=dtype,
        seed=seed,
    )
    file = run.run_dir.environment_json
    if file.exists():
        for difference in compare_environments(read_json(file), now):
            run.events.write("warning", run.step, message=difference)
        return
    write_json(file, now)


def tell_data(run: Run, loaded: LoadedData, rendered: RenderedData) -> None:
    """Say how many rows are used, and everything that was left out or cut."""
    events, counts = run.events, rendered.counts
    events.write(
        "data",
        message=f"data: {counts.rows:,} rows to train on ({loaded.format}), "
        f"{len(rendered.validation):,} held out; {counts.tokens:,} tokens, "
        f"{counts.supervised_tokens:,} of them trained",
        format=loaded.format,
        counts=asdict(loaded.counts),
        train=asdict(counts),
        validation=asdict(rendered.validation_counts),
        dropped=count_reasons(rendered),
    )
    if rendered.dropped:
        write_json(run.run_dir.path / DROPPED_FILE, [row._asdict() for row in rendered.dropped])
    for warning in data_warnings(loaded, rendered):
        events.write("warning", message=warning)


def count_reasons(rendered: RenderedData) -> dict[str, int]:
    """How many rows are left out for each reason; numbers in a reason are the row's own."""
    return dict(Counter(re.sub(r"\d+ tokens, ", "", row.reason) for row in rendered.dropped))


def data_warnings(loaded: LoadedData, rendered: RenderedData) -> list[str]:
    """What happened to rows that their owner may not expect."""
    counts, sides = loaded.counts, (rendered.counts, rendered.validation_counts)
    truncated = sum(side.rows_truncated for side in sides)
    lost = sum(side.lost_supervised_tokens for side in sides)
    texts = {
        f"{counts.duplicates:,} duplicate rows are used once": counts.duplicates,
        f"{counts.overlap:,} held-out rows are also trained": counts.overlap,
        f"{len(rendered.dropped):,} rows are left out (listed in {DROPPED_FILE})": len(
            rendered.dropped
        ),
        f"{truncated:,} rows are cut, {lost:,} supervised tokens are lost": truncated,
        "there are no held-out rows: nothing is measured": not rendered.validation,
    }
    return [text for text, happened in texts.items() if happened]


def tell_plan(
    run: Run,
    plan: Sequence[StepPlan],
    rendered: RenderedData,
    method: AppliedMethod,
    facts: ModelFacts,
    dtype: str,
) -> None:
    """Write plan.json and say what the run will take."""
    tokens = sum(len(rendered.train[row].tokens) for step in plan for row in step.rows)
    trainable = count_trainable(method)
    values: dict[str, Any] = {
        "total_steps": len(plan),
        "epochs": plan[-1].epoch,
        "micro_batches": sum(len(step.micro_batches) for step in plan),
        "tokens": tokens,
        "trainable_parameters": trainable,
        "total_parameters": facts.parameters,
        "dtype": dtype,
    }
    write_json(run.run_dir.plan_json, values)
    text = (
        f"plan: {len(plan):,} steps over {tokens:,} tokens; {trainable:,} of {facts.parameters:,} "
        f"parameters are trained, in {dtype}"
    )
    run.events.write("plan", message=text, **values)


def tell_step(events: EventLog, done: StepDone) -> None:
    """Write a step's numbers."""
    events.write(
        "step",
        done.step,
        total_steps=done.total_steps,
        epoch=done.epoch,
        learning_rate=done.learning_rate,
        seconds=done.seconds,
        tokens_per_second=done.outcome.tokens / done.seconds,
        memory_bytes=hardware.resident_bytes(),
        **asdict(done.outcome),
    )


def advance(progress: Progress, done: StepDone) -> Progress:
    """Add a step to what has been done."""
    return replace(
        progress,
        step=done.step,
        tokens=progress.tokens + done.outcome.tokens,
        supervised_tokens=progress.supervised_tokens + done.outcome.supervised_tokens,
        seconds=progress.seconds + done.seconds,
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
    save_checkpoint(folder, progress, method.trainable, optimizer)
    prune(folder, keep=recipe.training.keep_checkpoints, held_out=progress.held_out)
    run.events.write("checkpoint", progress.step, path=f"checkpoints/step-{progress.step}")


def save_final(
    run_dir: RunDir, method: AppliedMethod, tokenizer: Tokenizer, prepared: PreparedModel
) -> None:
    """Write `final/` under another name first, so that it is there whole or not at all."""
    temporary = run_dir.path / ".final.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        method.save(temporary, base=base_reference(prepared))
        tokenizer.save_pretrained(temporary)
        shutil.rmtree(run_dir.final, ignore_errors=True)
        temporary.rename(run_dir.final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise disk_error(run_dir.final, error) from error
    except TunesmithError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def describe_result(
    run_dir: RunDir,
    progress: Progress,
    method: AppliedMethod,
    facts: ModelFacts,
    loaded: LoadedData,
    rendered: RenderedData,
    started: float,
) -> dict[str, Any]:
    """Return the content of result.json. `seconds` is this process's, from data to report."""
    sides = read_json(run_dir.evaluation_json) if run_dir.evaluation_json.exists() else {}
    before, after = sides.get("before") or {}, sides.get("after") or {}
    steps = [event for event in read_events(run_dir.events_jsonl) if event["type"] == "step"]
    return {
        "status": "succeeded",
        "method": read_json(run_dir.resolved_json)["recipe"]["method"]["type"],
        "trainable_parameters": count_trainable(method),
        "total_parameters": facts.parameters,
        "steps": progress.step,
        "supervised_tokens": progress.supervised_tokens,
        "tokens": progress.tokens,
        "tokens_per_second": progress.tokens / progress.seconds if progress.seconds else None,
        "training_seconds": progress.seconds,
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": hardware.peak_resident_bytes(),
        "planned_memory_bytes": None,  # there is no planner yet
        "train_loss": steps[-1]["loss"] if steps else None,
        "validation_loss_before": before.get("loss"),
        "validation_loss_after": after.get("loss"),
        "task_metrics_before": before.get("metrics", {}),
        "task_metrics_after": after.get("metrics", {}),
        "rows_used": len(rendered.train),
        "rows_dropped": {
            **({"duplicate": loaded.counts.duplicates} if loaded.counts.duplicates else {}),
            **count_reasons(rendered),
        },
        "artifacts": {
            file.name: {"bytes": file.stat().st_size, "sha256": hash_file(file)}
            for file in sorted(run_dir.final.iterdir())
        },
    }


def base_reference(prepared: PreparedModel) -> str:
    """How adapter files name the base: a hub id where there is one, else the folder."""
    hub_id = prepared.origin.get("id")
    return str(hub_id) if hub_id else str(prepared.folder)


def as_run_error(error: BaseException, run_dir: RunDir) -> TunesmithError:
    """What people are told of an error; one that is nobody's fault but ours says so."""
    if isinstance(error, TunesmithError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return disk_error(Path(error.filename or run_dir.path), error)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        fault = Fault(
            found="memory ran out",
            where=f"{hardware.memory_limit_bytes():,} bytes on this machine",
            fix="lower training.micro_batch_tokens, then resume",
        )
        return RunError(fault, code="out_of_memory")
    fault = Fault(
        found=f"a fault in Tunesmith itself: {type(error).__name__}: {error}",
        where=str(run_dir.log),
        fix="report it with the log's last lines; `--resume` goes on from the last checkpoint",
    )
    return RunError(fault, code="internal")


if __name__ == "__main__":
    sys.exit(main())
