"""What a finished cell's run folder says, in the numbers of the table.

Each number may be missing: a run that measured nothing before has no `before`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.tasks.scores.row_values import PROBE

WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True, kw_only=True)
class Value:
    """A score over `rows` rows with its 95 % interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None
    rows: int = 0


@dataclass(frozen=True, kw_only=True)
class Side:
    """Before or after."""

    loss: float | None = None
    rows: int = 0
    metrics: Mapping[str, Value] = field(default_factory=dict[str, Value])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One cell's numbers. `differences` are after minus before on the same rows."""

    before: Side
    after: Side
    differences: Mapping[str, Value] = field(default_factory=dict[str, Value])
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    peak_memory_bytes: int | None = None
    planned_memory_bytes: int | None = None
    tokens_per_second: float | None = None
    training_seconds: float | None = None
    seconds: float | None = None
    weights_bytes: int | None = None
    steps: int | None = None
    rows_used: int | None = None
    tokens: int | None = None
    dtype: str | None = None
    finished: str | None = None
    tunesmith: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict[str, str])


def read_measured(run_dir: RunDir) -> Measured:
    """Read a finished run.

    Raises:
        UserError: a file of the folder is damaged.
    """
    result = _part(read_json(run_dir.result_json))
    sides = _part(read_json(run_dir.evaluation_json)) if run_dir.evaluation_json.exists() else {}
    environment = (
        _part(read_json(run_dir.environment_json)) if run_dir.environment_json.exists() else {}
    )
    state = run_dir.read_state()
    ended = datetime.fromtimestamp(state.heartbeat, UTC) if state else None
    names = (
        "trainable_parameters", "total_parameters", "peak_memory_bytes", "planned_memory_bytes",
        "tokens_per_second", "training_seconds", "seconds", "steps", "rows_used", "tokens",
    )  # fmt: skip
    return Measured(
        before=_side(_part(sides.get("before"))),
        after=_side(_part(sides.get("after"))),
        differences=_values(_part(sides.get("differences"))),
        weights_bytes=_weights_bytes(_part(result.get("artifacts"))),
        dtype=environment.get("dtype"),
        finished=ended.isoformat(timespec="seconds") if ended else None,
        tunesmith=environment.get("tunesmith"),
        packages=_part(environment.get("packages")),
        **{name: result.get(name) for name in names},
    )


def main_metric(side: Side) -> str | None:
    """Return the name of a scenario's main score: the first, as a task's own come first.

    What a model forgets does not say how good it is at the task.
    """
    return next((name for name in side.metrics if name != PROBE), None)


def _side(values: Mapping[str, Any]) -> Side:
    return Side(
        loss=values.get("loss"),
        rows=int(values.get("rows") or 0),
        metrics=_values(_part(values.get("metrics"))),
    )


def _values(scores: Mapping[str, Any]) -> dict[str, Value]:
    return {
        name: Value(
            value=float(score["value"]),
            low=score.get("low"),
            high=score.get("high"),
            rows=int(score.get("rows") or 0),
        )
        for name, score in scores.items()
    }


def _weights_bytes(artifacts: Mapping[str, Any]) -> int | None:
    """Return what the trained weights take on the disk, without the tokenizer's files."""
    sizes = [int(file["bytes"]) for name, file in artifacts.items() if name.endswith(WEIGHTS)]
    return sum(sizes) if sizes else None


def _part(values: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", values) if isinstance(values, Mapping) else {}
