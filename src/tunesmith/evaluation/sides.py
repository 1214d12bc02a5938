"""Keeps what was measured before and after in the run folder: evaluation.json, and predictions/.

evaluation.json holds `before`, `after`, and under `differences` how much better each score became.
Further comparisons have the same three parts under a name of their own:

trained       some of the rows that were trained: what a test on them would have shown
without_trained   the held-out rows that are not also trained, letter by letter or nearly
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import orjson

from tunesmith.core.run_dir import RunDir, read_json, write_bytes, write_json
from tunesmith.tasks.said import Said
from tunesmith.tasks.scores.score import Difference

When = Literal["before", "after"]
# "" is the comparison on the held-out rows.
Comparison = Literal["", "trained", "without_trained"]
Set = Literal["", "trained", "probe"]


def has_side(run_dir: RunDir, when: When) -> bool:
    """Whether a side was measured."""
    return when in _read(run_dir)


def write_part(run_dir: RunDir, when: When, values: Mapping[str, Any], of: Comparison = "") -> None:
    """Add one side of a comparison to evaluation.json; all else stays."""
    _add(run_dir, of, {when: values})


def write_differences(
    run_dir: RunDir, found: Mapping[str, Difference], of: Comparison = ""
) -> None:
    """Add to evaluation.json how much better each score became."""
    if found:
        _add(run_dir, of, {"differences": {name: asdict(one) for name, one in found.items()}})


def write_also_trained(run_dir: RunDir, counts: Mapping[str, int]) -> None:
    """Add to evaluation.json how many of the scored rows are trained, too: exact and near."""
    _add(run_dir, "without_trained", {"also_trained": counts})


def write_said(run_dir: RunDir, when: When, said: Sequence[Said], of: Set = "") -> None:
    """Keep what was answered to each row of a set, one row a line."""
    if said:
        file = predictions_file(run_dir, when, of)
        file.parent.mkdir(exist_ok=True)
        write_bytes(file, b"".join(orjson.dumps(asdict(one)) + b"\n" for one in said))


def predictions_file(run_dir: RunDir, when: When, of: Set = "") -> Path:
    """Where what was said on one side is kept: the held-out rows, or another set by its name."""
    return run_dir.path / "predictions" / f"{f'{of}-' if of else ''}{when}.jsonl"


def read_said(run_dir: RunDir, when: When, of: Set = "") -> tuple[Said, ...]:
    """Return what was said on one side; nothing where that was not scored."""
    file = predictions_file(run_dir, when, of)
    if not file.is_file():
        return ()
    return tuple(_said(orjson.loads(line)) for line in file.read_bytes().splitlines())


def _said(values: dict[str, Any]) -> Said:
    said, right = tuple(values["said"]), tuple(values["right"])
    return Said(values["row_id"], said, right, values["lost"], values.get("values", {}))


def _add(run_dir: RunDir, of: Comparison, values: Mapping[str, Any]) -> None:
    whole = _read(run_dir)
    if of:
        part = cast("dict[str, Any]", whole.get(of) or {})
        write_json(run_dir.evaluation_json, {**whole, of: {**part, **values}})
    else:
        write_json(run_dir.evaluation_json, {**whole, **values})


def _read(run_dir: RunDir) -> dict[str, Any]:
    file = run_dir.evaluation_json
    return cast("dict[str, Any]", read_json(file)) if file.exists() else {}
