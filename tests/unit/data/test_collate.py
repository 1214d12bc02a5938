from __future__ import annotations

import numpy as np
import torch

from tunesmith.data.collate import to_batch
from tunesmith.data.render import Example


def example(row_id: str, tokens: list[int], weights: list[float]) -> Example:
    return Example(
        row_id=row_id,
        file="d.jsonl",
        line=1,
        tokens=np.array(tokens, dtype=np.int32),
        weights=np.array(weights, dtype=np.float32),
    )


def test_a_target_is_the_next_token_with_that_tokens_weight() -> None:
    batch = to_batch([example("a", [5, 6, 7], [0, 0.5, 1]), example("b", [8, 9], [0, 1])], pad_id=3)
    assert batch.tokens_BT.tolist() == [[5, 6, 7], [8, 9, 3]]
    assert batch.targets_BT.tolist() == [[6, 7, 3], [9, 3, 3]]
    assert batch.weights_BT.tolist() == [[0.5, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert batch.lengths_B.tolist() == [3, 2]
    assert batch.row_ids == ("a", "b")
    assert (batch.tokens_BT.dtype, batch.weights_BT.dtype) == (torch.int64, torch.float32)


def test_an_end_token_is_trained_where_it_ends_a_row_and_not_where_it_pads() -> None:
    rows = [example("a", [5, 6, 2], [0, 1, 1]), example("b", [7, 6, 6, 6, 2], [0, 1, 1, 1, 1])]
    batch = to_batch(rows, pad_id=2)
    trained = batch.targets_BT[batch.weights_BT > 0]
    assert int((trained == 2).sum()) == 2
    assert batch.weights_BT[0].tolist() == [1, 1, 0, 0, 0]
    assert float(batch.weights_BT.sum()) == sum(row.supervised_tokens for row in rows)


def test_a_row_of_one_token_has_no_target() -> None:
    assert float(to_batch([example("a", [5], [0])], pad_id=0).weights_BT.sum()) == 0.0
