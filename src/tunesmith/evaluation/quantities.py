"""Numbers as a report writes them."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """Bytes in the largest unit that keeps a number above 1."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def duration_text(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def share_text(value: float | None) -> str:
    """A share in percent; a dash where it was not measured."""
    return "-" if value is None else f"{value:.1%}"


def number_text(value: float | None, *, digits: int) -> str:
    """A number with its digits; a dash where it was not measured."""
    return "-" if value is None else f"{value:,.{digits}f}"


# Scores that are no share of rows: mcc is a correlation, from -1 to 1, a distance a mean of ratios.
PLAIN_SCORES = frozenset({"mcc", "tune-distance"})


def score_text(name: str, value: float | None) -> str:
    """A score as its kind is written: a share in percent, or a number."""
    return number_text(value, digits=3) if name in PLAIN_SCORES else share_text(value)


def change_text(name: str, value: float) -> str:
    """How much a score changed: in points of percent, or as a number."""
    return f"{value:+.3f}" if name in PLAIN_SCORES else f"{100 * value:+.1f}"
