"""What result.json holds: how a run went, in numbers that a program reads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.core.events import read_events
from tunesmith.core.file_hash import file_sha256
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.data.pipeline import RunData
from tunesmith.methods.base import AppliedMethod, count_trainable
from tunesmith.models.device import DevicePeak
from tunesmith.models.facts import ModelFacts
from tunesmith.training.checkpoint import Progress


@dataclass(frozen=True)
class Peak:
    """The most bytes that a rank had of the host's memory, and of its GPU's where it has one."""

    host: int
    device: DevicePeak | None = None


def describe_result(
    run_dir: RunDir,
    progress: Progress,
    method: AppliedMethod,
    facts: ModelFacts,
    data: RunData,
    started: float,
    peaks: Sequence[Peak],
) -> dict[str, Any]:
    """Return the content of result.json.

    `seconds` is this process's, from data to report; `peaks` are what each rank had at most.
    """
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
        **_peaks(peaks),
        "planned_memory_bytes": read_json(run_dir.plan_json)["memory"]["total"],
        "train_loss": steps[-1]["loss"] if steps else None,
        "validation_loss_before": before.get("loss"),
        "validation_loss_after": after.get("loss"),
        "task_metrics_before": before.get("metrics", {}),
        "task_metrics_after": after.get("metrics", {}),
        **{
            f"preference_{when}": side["preference"]
            for when, side in (("before", before), ("after", after))
            if "preference" in side
        },
        "rows_used": len(np.unique(data.train.rows)),
        "rows_dropped": {
            **({"duplicate": data.counts.duplicates} if data.counts.duplicates else {}),
            **data.dropped_reasons(),
        },
        "artifacts": {
            file.name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)}
            for file in sorted(run_dir.final.iterdir())
        },
    }


def _peaks(peaks: Sequence[Peak]) -> dict[str, Any]:
    sizes = {"peak_memory_bytes": [one.host for one in peaks]}
    on_device = [one.device for one in peaks if one.device is not None]
    if on_device:
        sizes["peak_device_memory_bytes"] = [one.taken for one in on_device]
        sizes["peak_device_tensor_bytes"] = [one.tensors for one in on_device]
    found: dict[str, Any] = {name: max(values) for name, values in sizes.items()}
    if len(peaks) > 1:
        found |= {f"{name}_of_ranks": values for name, values in sizes.items()}
    return found
