"""Numbers with their units, as people read them."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """1536 -> `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration_text(seconds: float) -> str:
    """100 -> `1m40s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


def count_text(number: float) -> str:
    """1234567 -> `1,234,567`."""
    return f"{number:,.0f}"


def share_text(part: float, whole: float) -> str:
    """1 of 8 -> `12.5%`."""
    return f"{100 * part / whole:.1f}%" if whole else "0.0%"
