"""From a run folder's files to what a report says. Nothing else is read, so a report can be remade.

Each file may be missing or hold less than it could: a report of what is there is better than none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tunesmith.core.events import Event, read_events
from tunesmith.core.run_dir import RunDir, read_json
from tunesmith.tasks.scores.row_values import PROBE

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """After minus before on the same rows, with the interval of the paired bootstrap."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Measure:
    """One number before and after; an interval only where there is one."""

    name: str
    before: float | None
    after: float | None
    rows: int
    before_interval: tuple[float, float] | None = None
    after_interval: tuple[float, float] | None = None
    details: tuple[tuple[str, float | None, float | None], ...] = ()
    change: Change | None = None


@dataclass(frozen=True)
class Overlap:
    """How many held-out rows are also trained, equal or nearly equal, and the scores without."""

    exact: int
    near: int
    rows_without: int
    metrics: tuple[Measure, ...]


@dataclass(frozen=True)
class Mistake:
    """How many of a class's rows were taken for another class; `said` is None for none at all."""

    right: str
    said: str | None
    rows: int
    of: int


@dataclass(frozen=True)
class Confusion:
    """What was taken for what on one side.

    Of few classes `counts` has a row for each of `labels`, with a column for each and one more for
    answers that are no class.
    """

    when: str
    classes: int
    mistakes: tuple[Mistake, ...]
    labels: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Row:
    """One held-out row, side by side."""

    row_id: str
    prompt: str
    reference: str
    before: str | None
    after: str | None
    before_is_cut: bool = False
    after_is_cut: bool = False


@dataclass(frozen=True)
class Curve:
    """The training loss by step with the tokens it is a mean of, and the held-out points."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    tokens: tuple[float, ...]
    held_out: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Facts:
    """Everything that a report says."""

    folder: Path
    recipe: Values
    origins: Values
    recipe_text: str
    environment: Values
    result: Values
    curve: Curve
    loss: Measure | None
    perplexity: Measure | None
    metrics: tuple[Measure, ...]
    probe: Measure | None
    trained: tuple[Measure, ...]
    overlap: Overlap | None
    signatures: Mapping[str, str]
    rewards: tuple[Measure, ...]
    rows: tuple[Row, ...]
    confusion: Confusion | None
    data: Values
    dropped: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]


def read_facts(run_dir: RunDir) -> Facts:
    """Read the folder."""
    events = read_events(run_dir.events_jsonl)
    resolved = _read(run_dir.resolved_json)
    result = _read(run_dir.result_json)
    sides = _read(run_dir.evaluation_json)
    before, after = _part(sides, "before"), _part(sides, "after")
    metrics = _compared(sides)
    data = next((event for event in reversed(events) if event["type"] == "data"), {})
    return Facts(
        folder=run_dir.path,
        recipe=_part(resolved, "recipe"),
        origins=_part(resolved, "origins"),
        recipe_text=_text(run_dir.recipe_yaml),
        environment=_read(run_dir.environment_json),
        result=result,
        curve=_curve(events, before, after),
        loss=_number("loss", before, after),
        perplexity=_number("perplexity", before, after),
        metrics=tuple(metric for metric in metrics if metric.name != PROBE),
        probe=next((metric for metric in metrics if metric.name == PROBE), None),
        trained=_compared(_part(sides, "trained")),
        overlap=_overlap(_part(sides, "without_trained")),
        signatures=_signatures(_part(after or before, "metrics")),
        rewards=_rewards(_part(before, "preference"), _part(after, "preference")),
        rows=_rows(before.get("answers") or (), after.get("answers") or ()),
        confusion=_confusion("after", after) or _confusion("before", before),
        data=data,
        dropped=_dropped(result.get("rows_dropped"), data.get("dropped")),
        warnings=_warnings(events),
    )


def _read(path: Path) -> Values:
    content = read_json(path) if path.exists() else {}
    return cast(Values, content) if isinstance(content, Mapping) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _part(values: Values, name: str) -> Values:
    part = values.get(name)
    return cast(Values, part) if isinstance(part, Mapping) else {}


def _curve(events: Sequence[Event], before: Values, after: Values) -> Curve:
    """After a resume some steps were done twice; the later one counts."""
    steps = {
        int(event["step"]): event
        for event in events
        if event["type"] == "step" and isinstance(event.get("loss"), (int, float))
    }
    held_out: dict[int, float] = {}
    for event in events:
        loss = event.get("loss", event.get("validation_loss"))
        if event["type"] == "evaluation" and isinstance(loss, (int, float)):
            held_out[int(event.get("step") or 0)] = float(loss)
    if isinstance(before.get("loss"), (int, float)):
        held_out[0] = float(before["loss"])
    if isinstance(after.get("loss"), (int, float)):
        held_out[max(steps, default=0)] = float(after["loss"])
    ordered = sorted(steps)
    return Curve(
        steps=tuple(ordered),
        losses=tuple(float(steps[step]["loss"]) for step in ordered),
        tokens=tuple(float(steps[step].get("supervised_tokens") or 1) for step in ordered),
        held_out=tuple(sorted(held_out.items())),
    )


def _number(name: str, before: Values, after: Values) -> Measure | None:
    values = before.get(name), after.get(name)
    if values == (None, None):
        return None
    rows = int(after.get("rows") or before.get("rows") or 0)
    return Measure(name, *values, rows)


def _rewards(before: Values, after: Values) -> tuple[Measure, ...]:
    """What a preference run tells beside its accuracy, which is a metric."""
    names = ("reward_margin", "chosen_reward", "rejected_reward")
    return tuple(
        Measure(name.replace("_", " "), before.get(name), after.get(name), 0)
        for name in names
        if name in before or name in after
    )


def _compared(sides: Values) -> tuple[Measure, ...]:
    """The scores of one comparison, which has two sides and what changed between them."""
    before, after = (_part(_part(sides, when), "metrics") for when in ("before", "after"))
    return _metrics(before, after, _part(sides, "differences"))


def _overlap(sides: Values) -> Overlap | None:
    counts = _part(sides, "also_trained")
    if not counts:
        return None
    some = _part(sides, "after") or _part(sides, "before")
    return Overlap(
        exact=int(counts.get("exact") or 0),
        near=int(counts.get("near") or 0),
        rows_without=int(some.get("rows") or 0),
        metrics=_compared(sides),
    )


def _signatures(metrics: Values) -> dict[str, str]:
    found = {name: str(_part(metrics, name).get("signature") or "") for name in metrics}
    return {name: text for name, text in found.items() if text}


def _metrics(before: Values, after: Values, changes: Values) -> tuple[Measure, ...]:
    names = dict.fromkeys((*after, *before))
    return tuple(
        _metric(name, _part(before, name), _part(after, name), _part(changes, name))
        for name in names
    )


def _metric(name: str, before: Values, after: Values, change: Values) -> Measure:
    old, new = _part(before, "details"), _part(after, "details")
    return Measure(
        name=name,
        before=before.get("value"),
        after=after.get("value"),
        rows=int(after.get("rows") or before.get("rows") or 0),
        before_interval=_interval(before),
        after_interval=_interval(after),
        details=tuple((key, old.get(key), new.get(key)) for key in dict.fromkeys((*new, *old))),
        change=Change(float(change["value"]), _interval(change)) if "value" in change else None,
    )


def _interval(score: Values) -> tuple[float, float] | None:
    low, high = score.get("low"), score.get("high")
    return None if low is None or high is None else (float(low), float(high))


def _rows(before: Sequence[Values], after: Sequence[Values]) -> tuple[Row, ...]:
    old = {str(answer.get("row_id")): answer for answer in before}
    new = {str(answer.get("row_id")): answer for answer in after}
    return tuple(_row(name, old.get(name), new.get(name)) for name in dict.fromkeys((*new, *old)))


def _row(row_id: str, before: Values | None, after: Values | None) -> Row:
    some = after or before or {}
    return Row(
        row_id=row_id,
        prompt=str(some.get("prompt") or ""),
        reference=str(some.get("reference") or ""),
        before=None if before is None else str(before.get("text") or ""),
        after=None if after is None else str(after.get("text") or ""),
        before_is_cut=(before or {}).get("finish_reason") == "length",
        after_is_cut=(after or {}).get("finish_reason") == "length",
    )


def _confusion(when: str, side: Values) -> Confusion | None:
    found = _part(side, "confusion")
    if not found:
        return None
    return Confusion(
        when=when,
        classes=int(found.get("classes") or 0),
        mistakes=tuple(Mistake(**pair) for pair in found.get("pairs") or ()),
        labels=tuple(found.get("labels") or ()),
        counts=tuple(tuple(row) for row in found.get("counts") or ()),
    )


def _dropped(by_result: object, by_event: object) -> tuple[tuple[str, int], ...]:
    """Counts by reason, most first. The result holds counts, or lists of rows, or rows."""
    counts: Counter[str] = Counter()
    given = by_result or by_event
    if isinstance(given, Mapping):
        for reason, what in cast(Values, given).items():
            counts[str(reason)] += len(what) if isinstance(what, Sequence) else int(what or 0)
    elif isinstance(given, list):
        counts.update(str(cast(Values, row).get("reason")) for row in cast(list[Any], given))
    elif isinstance(given, int):
        counts["left out"] += given
    return tuple((reason, count) for reason, count in counts.most_common() if count)


def _warnings(events: Sequence[Event]) -> tuple[str, ...]:
    messages = (str(event.get("message") or "") for event in events if event["type"] == "warning")
    return tuple(dict.fromkeys(message for message in messages if message))
