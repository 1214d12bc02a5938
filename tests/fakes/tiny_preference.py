"""Pairs of a chosen and a rejected answer, as examples and as rows of a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from tests.fakes.tiny_llama import make_examples
from tunesmith.data.collate import Batch, to_batch
from tunesmith.data.render import Example


def make_pairs(lengths: list[tuple[int, int]], *, seed: int = 0) -> list[Example]:
    """Make chosen and rejected rows by turns; both of a pair begin with the same prompt."""
    examples: list[Example] = []
    for number, (chosen, rejected) in enumerate(lengths):
        prompt = min(chosen, rejected) // 2
        pair = make_examples([chosen, rejected], seed=seed + number, shared_prefix=prompt)
        for one, part in zip(pair, ("chosen", "rejected"), strict=True):
            weights = one.weights.copy()
            weights[prompt:] = 1.0
            examples.append(replace(one, weights=weights, row_id=f"rows:{number + 1}", part=part))
    return examples


def batches_of(examples: list[Example], groups: list[list[int]]) -> list[Batch]:
    """Micro-batches of these examples by index."""
    return [to_batch([examples[i] for i in group], 0, group) for group in groups]


def is_rejected(examples: list[Example]) -> torch.Tensor:
    """Which of the examples are the worse answers."""
    return torch.tensor([example.part == "rejected" for example in examples])


def make_pair_rows(file: Path, num_rows: int) -> Path:
    """Write pairs whose chosen answer always says yes and whose rejected one says no."""
    rows = [
        {
            "prompt": f"question {row} " + "word " * (row % 7),
            "chosen": f"yes {row} " + "sure " * (row % 5),
            "rejected": f"no {row} " + "never " * (row % 3),
        }
        for row in range(num_rows)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def make_rated_rows(file: Path, num_rows: int, *, bad_every: int = 2) -> Path:
    """Write single answers with a rating."""
    rows = [
        {
            "prompt": f"question {row} " + "word " * (row % 7),
            "completion": f"yes {row}" if row % bad_every else f"no {row}",
            "label": bool(row % bad_every),
        }
        for row in range(num_rows)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
