"""Writes files of rows and prepares them, for tests of what becomes of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.data.pipeline import RunData, check_data, lay_out, require_trainable
from tunesmith.data.prepared.tokenizer_source import TokenizerSource
from tunesmith.recipe.data import DataPart


def say_nothing(text: str) -> None:
    del text


def prepare(part: DataPart, tokenizer: TokenizerSource) -> RunData:
    data = lay_out(part, "chat", tokenizer, tell=say_nothing)
    require_trainable(data, tokenizer)
    return data


def check(part: DataPart) -> None:
    check_data(part, "chat", tell=say_nothing)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)
