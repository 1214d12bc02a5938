"""Sides and X-rays made by hand, for the tests of what shows them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunesmith.data.xray.build import SideArrays, x_ray
from tunesmith.data.xray.facts import XRay
from tunesmith.recipe.data import DataPart


def side(lengths: list[int], **given: Any) -> SideArrays:
    """A side of one example a row, of which each has 4 supervised tokens and nothing is cut."""
    count = len(lengths)
    values: dict[str, Any] = {
        "num_rows": count,
        "example_row": np.arange(count),
        "lengths": np.array(lengths, dtype=np.int64),
        "supervised": np.full(count, 4),
        "num_bos": np.ones(count, dtype=np.int64),
        "has_end": np.ones(count, dtype=bool),
        "control_text": np.zeros(count, dtype=bool),
    }
    values |= {
        name: np.array(value) if isinstance(value, list) and name != "label_names" else value
        for name, value in given.items()
    }
    values.setdefault("used_lengths", values["lengths"])
    values.setdefault("used_supervised", values["supervised"])
    values.setdefault("num_used", int(np.count_nonzero(values["used_lengths"])))
    return SideArrays(**values)


def look(sides: dict[str, SideArrays] | SideArrays, **given: Any) -> XRay:
    """The X-ray of sides; a single one is the training side."""
    part_keys = {"max_length", "overflow", "on_bad_row"}
    part = DataPart(train="d.jsonl", **{k: v for k, v in given.items() if k in part_keys})
    options: dict[str, Any] = {"model": "tiny", "task": "chat", "form": "messages"}
    options |= {"adds_bos": False} | {k: v for k, v in given.items() if k not in part_keys}
    return x_ray({"train": sides} if isinstance(sides, SideArrays) else sides, part, **options)
