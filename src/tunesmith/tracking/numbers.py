"""From a run's events to what a tracker shows: numbers by name, at a step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

GROUPS = {"step": "train", "evaluation": "evaluation"}
NOT_SHOWN = ("type", "time", "step")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What was measured at a step; `at` is the unix time."""

    step: int
    at: float
    values: Mapping[str, float]


def numbers_of(event: Mapping[str, Any]) -> Numbers | None:
    """Return an event's numbers, e.g. train/loss; None where it has none for people to plot."""
    group = GROUPS.get(str(event["type"]))
    if group is None or event.get("step") is None:
        return None
    shown = {key: value for key, value in event.items() if key not in NOT_SHOWN}
    scores = cast(Mapping[str, Any], shown.pop("metrics", None) or {})
    values = {f"{group}/{key}": float(value) for key, value in shown.items() if _is_number(value)}
    for name, score in scores.items():
        value = cast(Mapping[str, Any], score).get("value") if isinstance(score, Mapping) else score
        if _is_number(value):
            values[f"{group}/{name}"] = float(cast(float, value))
    if not values:
        return None
    at = datetime.fromisoformat(str(event["time"])).timestamp()
    return Numbers(step=int(event["step"]), at=at, values=values)


def settings_of(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return a recipe's values by dotted name, those that are set."""
    settings: dict[str, str] = {}
    for key, value in values.items():
        name = f"{above}.{key}" if above else key
        if isinstance(value, Mapping):
            settings |= settings_of(cast(Mapping[str, Any], value), name)
        elif value is not None:
            settings[name] = str(value)
    return settings


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
