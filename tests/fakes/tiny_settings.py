"""Settings of the PEFT library's methods that tiny layers allow, by method."""

from __future__ import annotations

from typing import Any

from tunesmith.recipe.peft_method import ROWS

TINY_SETTINGS: dict[str, dict[str, Any]] = {
    "oft": {"block_size": 8},
    "c3a": {"block_size": 8},
    "road": {"block_size": 8},
    "vera": {"rank": 8},
    "shira": {"rank": 4},
    "vblora": {"vectors": 8, "vector_length": 8},
    "fourierft": {"frequencies": 20},
    "waveft": {"frequencies": 20},
    **{word: {"virtual_tokens": 5} for word, row in ROWS.items() if row.kind == "prompt"},
}
