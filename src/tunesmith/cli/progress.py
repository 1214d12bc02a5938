"""From a run's events to the lines that people watch. Pure: events in, text out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tunesmith.cli.quantities import bytes_text, duration_text

BAR_WIDTH = 20
# Enough steps to even out long and short ones, few enough to follow a machine that slows down.
PACE_STEPS = 20
# Types that are shown in another way, or are for other readers.
SILENT = ("step", "error")


class Pace:
    """How long a step takes, from the times of the latest step events."""

    def __init__(self) -> None:
        self._times: deque[tuple[int, datetime]] = deque(maxlen=PACE_STEPS)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take note of a step event."""
        self._times.append((int(event["step"]), datetime.fromisoformat(event["time"])))

    def seconds_left(self, event: Mapping[str, Any]) -> float | None:
        """The time from this step to the last one; None before there is a pace."""
        first_step, first_time = self._times[0]
        last_step, last_time = self._times[-1]
        steps_left = int(event.get("total_steps") or 0) - last_step
        if last_step > first_step:
            each = (last_time - first_time).total_seconds() / (last_step - first_step)
        elif event.get("seconds"):
            each = float(event["seconds"])
        else:
            return None
        return max(0.0, each * steps_left)


def live_text(event: Mapping[str, Any], seconds_left: float | None) -> str:
    """A step as the live line shows it, with a bar."""
    bar = bar_text(int(event["step"]), int(event.get("total_steps") or 0))
    return f"{bar} {_step_text(event, seconds_left)}"


def bar_text(done: int, total: int) -> str:
    """1 of 4 -> `[=====---------------]`."""
    filled = BAR_WIDTH * done // total if total else 0
    return f"[{'=' * filled}{'-' * (BAR_WIDTH - filled)}]"


def plain_text(event: Mapping[str, Any], seconds_left: float | None) -> str:
    """A step as a line of its own, with the time of day (UTC)."""
    return f"{str(event.get('time', ''))[11:19]} {_step_text(event, seconds_left)}"


def event_text(event: Mapping[str, Any]) -> str | None:
    """An event that is not a step as a line, or None when it is for other readers."""
    kind = str(event["type"])
    if kind in SILENT or (kind == "run" and event.get("status") != "resumed"):
        return None
    if kind == "run":
        return f"resumed {event.get('message', '')}".rstrip()
    if event.get("message"):
        text = str(event["message"])
        return f"warning: {text}" if kind == "warning" else text
    if kind == "evaluation":
        return _evaluation_text(event)
    if kind == "checkpoint":
        return f"checkpoint saved at step {event.get('step')}"
    fields = {key: value for key, value in event.items() if key not in ("type", "time", "step")}
    shown = [f"{_name(key)} {_value(key, fields[key])}" for key in fields]
    plain = [text for key, text in zip(fields, shown, strict=True) if _is_scalar(fields[key])]
    return f"{kind}: {', '.join(plain)}" if plain else None


def _step_text(event: Mapping[str, Any], seconds_left: float | None) -> str:
    parts = [f"step {event['step']}/{event.get('total_steps') or '?'}"]
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.4f}")
    if event.get("tokens_per_second"):
        parts.append(f"{event['tokens_per_second']:,.0f} tokens/s")
    if event.get("device_memory_bytes"):
        parts.append(f"GPU memory {bytes_text(event['device_memory_bytes'])}")
    elif event.get("memory_bytes"):
        parts.append(f"memory {bytes_text(event['memory_bytes'])}")
    if seconds_left is not None:
        parts.append(f"{duration_text(seconds_left)} left")
    return "  ".join(parts)


def _evaluation_text(event: Mapping[str, Any]) -> str | None:
    """Say what a held-out evaluation found; `when` (or `phase`) says which one it was."""
    when = event.get("when") or event.get("phase") or f"at step {event.get('step')}"
    parts: list[str] = []
    if event.get("loss") is not None:
        parts.append(f"held-out loss {event['loss']:.4f}")
    if event.get("perplexity") is not None:
        parts.append(f"perplexity {event['perplexity']:.2f}")
    metrics = event.get("metrics")
    for name, score in dict(metrics).items() if isinstance(metrics, Mapping) else ():
        value = score.get("value") if isinstance(score, Mapping) else score
        parts.append(f"{name} {value:.3f}" if isinstance(value, (int, float)) else str(name))
    return f"evaluation ({when}): {', '.join(parts)}" if parts else None


def _is_scalar(value: object) -> bool:
    return isinstance(value, (str, int, float)) and value != ""


def _name(key: str) -> str:
    return key.removesuffix("_bytes").replace("_", " ")


def _value(key: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if key.endswith("_bytes"):
        return bytes_text(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
