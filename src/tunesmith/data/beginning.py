"""What many texts begin with."""

from __future__ import annotations

from collections.abc import Sequence


def common_beginning(texts: Sequence[str]) -> str:
    """Return the characters that every text begins with; of no text, none."""
    if not texts:
        return ""
    # Texts between the smallest and the largest begin with whatever those two share.
    smallest, largest = min(texts), max(texts)
    pairs = enumerate(zip(smallest, largest, strict=False))
    end = next((place for place, (one, other) in pairs if one != other), len(smallest))
    return smallest[:end]
