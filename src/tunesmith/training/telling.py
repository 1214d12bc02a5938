"""What a run tells of itself: its data, its plan and its steps, as events and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from tunesmith.core import hardware
from tunesmith.core.events import EventLog
from tunesmith.core.run_dir import RunDir, write_bytes, write_json
from tunesmith.data.account import data_warnings, dropped_lines
from tunesmith.data.examine import examine, page_of, require_useful
from tunesmith.data.pack import StepPlan
from tunesmith.data.pipeline import RunData, require_trainable
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.methods.base import AppliedMethod
from tunesmith.models.device import taken_bytes
from tunesmith.models.facts import ModelFacts
from tunesmith.recipe.training import TrainingPart
from tunesmith.training.batch_plan import BatchPlan
from tunesmith.training.loop import StepDone
from tunesmith.training.memory_decision import MemoryDecision
from tunesmith.training.plan_values import plan_values

DROPPED_FILE = "dropped.jsonl"


def tell_data(run_dir: RunDir, events: EventLog, data: RunData) -> None:
    """Say how many rows are used, and everything that was left out or cut."""
    counts = data.train_side.counts()
    held_out = data.validation_side.counts()
    reasons = data.dropped_reasons()
    events.write(
        "data",
        message=f"data: {counts.rows:,} rows to train on ({data.format}), "
        f"{held_out.rows:,} held out; {counts.tokens:,} tokens, "
        f"{counts.supervised_tokens:,} of them trained",
        format=data.format,
        counts=asdict(data.counts),
        train=asdict(counts),
        validation=asdict(held_out),
        dropped=reasons,
    )
    if reasons:
        write_bytes(run_dir.path / DROPPED_FILE, dropped_lines(data))
    for warning in data_warnings(data, DROPPED_FILE):
        events.write("warning", message=warning)


def examine_data(
    run_dir: RunDir, events: EventLog, data: RunData, source: TokenizerSource, model: str
) -> None:
    """Look at what would be trained, keep it for people, and stop where it is of no use.

    Raises:
        DataError: rows do not fit, or nothing useful would be trained.
    """
    xray = examine(data, source, model=model)
    write_json(run_dir.xray_json, xray.as_json())
    write_bytes(run_dir.xray_html, page_of(xray, data, source).encode())
    require_trainable(data, source)
    require_useful(xray, data)
    for verdict in xray.verdicts:
        events.write("warning", message=f"{verdict.sentence}; to do: {verdict.remedy}")


def tell_plan(
    run_dir: RunDir,
    events: EventLog,
    part: TrainingPart,
    plan: Sequence[StepPlan],
    lengths: Sequence[int],
    method: AppliedMethod,
    facts: ModelFacts,
    dtype: str,
    memory: MemoryDecision,
    batch: BatchPlan,
) -> None:
    """Write plan.json and say what the run will take."""
    values = plan_values(plan, lengths, method, facts, part, dtype, memory, batch)
    write_json(run_dir.plan_json, values)
    text = (
        f"plan: {len(plan):,} steps over {values['tokens']:,} tokens; "
        f"{values['trainable_parameters']:,} of {facts.parameters:,} parameters are trained, in "
        f"{_kept_as(memory.ask.base, dtype)}; "
        f"{values['memory']['total'] / 1e9:.1f} GB of {memory.whose} expected"
    )
    if memory.ranks_here > 1:
        text += (
            f" for each process, {values['memory_of_all_ranks'] / 1e9:.1f} GB for the "
            f"{memory.ranks_here} on this machine"
        )
    if values["offload_disk_bytes"]:
        text += (
            f"; {values['offload_disk_bytes'] / 1e9:.1f} GB on the disk of strategy.offload_path"
        )
    events.write("plan", message=text, **values)
    if batch.processes.value > 1:
        events.write("note", message=str(batch))


def _kept_as(base: str | None, dtype: str) -> str:
    """What is computed in, and how the base is kept where that is something else."""
    return dtype if base is None else f"{dtype} on a base in {base}"


def tell_step(events: EventLog, done: StepDone, device: torch.device) -> None:
    """Write a step's numbers, with the memory that is taken of the host and of a GPU."""
    on_device = taken_bytes(device)
    outcome = asdict(done.outcome)
    measures = outcome.pop("measures")
    events.write(
        "step",
        done.step,
        total_steps=done.total_steps,
        epoch=done.epoch,
        learning_rate=done.learning_rate,
        seconds=done.seconds,
        tokens_per_second=done.outcome.tokens / done.seconds,
        memory_bytes=hardware.resident_bytes(),
        **({} if on_device is None else {"device_memory_bytes": on_device}),
        **outcome,
        **measures,
    )
