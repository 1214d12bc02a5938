from __future__ import annotations

import numpy as np
import pytest

from tunesmith.data.prepared.sides import distinct_rows, rows_in_both, split_by_hash
from tunesmith.data.prepared.store import Array, empty_rows


def rows_of(*hashes: tuple[int, int]) -> Array:
    """Rows whose texts hash to these numbers; the second differs where only weights do."""
    rows = empty_rows(len(hashes))
    for place, (side, whole) in enumerate(hashes):
        rows["side_high"][place] = rows["group"][place] = side
        rows["hash_high"][place] = side
        rows["hash_low"][place] = whole
    return rows


def test_the_first_of_equal_rows_stays_and_the_order_is_the_files() -> None:
    rows = rows_of((9, 0), (3, 0), (9, 0), (1, 0), (3, 0), (9, 1))
    assert distinct_rows(rows).tolist() == [0, 1, 3, 5]


def test_a_rows_side_depends_on_its_texts_alone() -> None:
    generator = np.random.default_rng(0)
    hashes = [(int(one), 0) for one in generator.integers(0, 2**63, 1000, dtype=np.uint64) * 2]
    rows = rows_of(*hashes)
    sides = split_by_hash(rows, 0.25)
    assert 200 < len(sides.validation) < 300
    assert sorted([*sides.train, *sides.validation]) == list(range(1000))
    shuffled = generator.permutation(1000)
    again = split_by_hash(rows[shuffled], 0.25)
    assert set(shuffled[again.validation]) == set(sides.validation)


def test_rows_that_are_added_later_move_no_other_row() -> None:
    generator = np.random.default_rng(1)
    hashes = [(int(one), 0) for one in generator.integers(0, 2**63, 300, dtype=np.uint64) * 2]
    few, many = split_by_hash(rows_of(*hashes[:100]), 0.2), split_by_hash(rows_of(*hashes), 0.2)
    assert set(few.validation) <= set(many.validation)
    assert not set(few.train) & set(many.validation)


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_neither_side_stays_empty(share: float) -> None:
    sides = split_by_hash(rows_of((2**62, 0), (2**63, 0), (2**61, 0)), share)
    assert len(sides.train) >= 1
    assert len(sides.validation) >= 1
    if share < 0.5:
        assert sides.validation.tolist() == [2]  # the hash next to the limit crosses over


def test_rows_that_differ_only_in_weights_stay_on_one_side() -> None:
    rows = rows_of((2**62, 0), (2**62, 1), (2**63, 0), (2**63, 1))
    sides = split_by_hash(rows, 0.4)
    assert sides.validation.tolist() == [0, 1]
    assert sides.duplicates == 0


def test_one_row_is_trained_and_none_is_held_out() -> None:
    assert split_by_hash(rows_of((2**63, 0)), 0.1).train.tolist() == [0]


def test_rows_of_two_files_are_compared_by_their_texts() -> None:
    train, held_out = rows_of((5, 0), (7, 0)), rows_of((7, 9), (8, 0), (5, 0))
    assert rows_in_both(held_out, train).tolist() == [0, 2]
    assert rows_in_both(held_out, empty_rows(0)).tolist() == []
    assert rows_in_both(empty_rows(0), train).tolist() == []


def test_rows_of_one_group_stay_on_one_side() -> None:
    generator = np.random.default_rng(2)
    rows = rows_of(*((n, n) for n in range(400)))
    rows["group"] = np.repeat(generator.integers(0, 2**63, 40, dtype=np.uint64) * 2, 10)
    sides = split_by_hash(rows, 0.25)
    assert len(sides.train) + len(sides.validation) == 400
    assert len(sides.validation) > 0
    groups = [set(rows["group"][side]) for side in (sides.train, sides.validation)]
    assert not groups[0] & groups[1]
