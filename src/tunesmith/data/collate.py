"""From examples to tensors, and the only place where tokens are shifted into targets.

tokens_BT    a  b  c  d  .        B rows, T positions, padded on the right
targets_BT   b  c  d  .  .        what each position is to predict
weights_BT   wb wc wd 0  0        the weight of the target, not of the token itself
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tunesmith.data.render import Example


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of a micro-batch, side by side. `indices` are their places among all examples."""

    tokens_BT: torch.Tensor
    targets_BT: torch.Tensor
    weights_BT: torch.Tensor
    lengths_B: torch.Tensor
    row_ids: tuple[str, ...]
    indices: tuple[int, ...] = ()
    marks: tuple[tuple[int, int, str], ...] = ()
    """Row, place and label of what a head is to say, row by row; weights are at the places."""


def to_batch(examples: Sequence[Example], pad_id: int, indices: Sequence[int] = ()) -> Batch:
    """Pad to the longest row. Padding has weight 0 by its position, whatever token it is."""
    assert examples, "a batch has at least one row"
    shape = (len(examples), max(len(example.tokens) for example in examples))
    tokens_BT = np.full(shape, pad_id, dtype=np.int64)
    targets_BT = np.full(shape, pad_id, dtype=np.int64)
    weights_BT = np.zeros(shape, dtype=np.float32)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens_BT[row, :length] = example.tokens
        targets_BT[row, : length - 1] = example.tokens[1:]
        if example.labels:  # a head says something of the place itself, not of the next one
            weights_BT[row, :length] = example.weights
            continue
        weights_BT[row, : length - 1] = example.weights[1:]
    return Batch(
        tokens_BT=torch.from_numpy(tokens_BT),
        targets_BT=torch.from_numpy(targets_BT),
        weights_BT=torch.from_numpy(weights_BT),
        lengths_B=torch.tensor([len(example.tokens) for example in examples], dtype=torch.int64),
        row_ids=tuple(example.row_id for example in examples),
        indices=tuple(indices),
        marks=tuple(
            (row, int(place), label)
            for row, example in enumerate(examples)
            for place, label in zip(example.places, example.labels, strict=True)
        ),
    )
