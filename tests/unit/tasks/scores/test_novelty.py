from __future__ import annotations

import random

import pytest

from tests.unit.tasks.abc.tunes import REEL, tune
from tunesmith.tasks.scores.novelty import Collection, measure_novelty, passage_distance


def random_tune(seed: int, *, bars: int = 16) -> str:
    generator = random.Random(seed)
    music = "|".join("".join(generator.choices("CDEFGABcde", k=8)) for _ in range(bars))
    return tune(music + "|")


def changes(pattern: str, text: str) -> int:
    """Compute the fewest changes by the table of all distances."""
    before = [0] * (len(text) + 1)  # a passage may begin anywhere
    for row, item in enumerate(pattern, 1):
        now = [row]
        for column, other in enumerate(text, 1):
            replaced = before[column - 1] + (item != other)
            now.append(min(replaced, before[column] + 1, now[column - 1] + 1))
        before = now
    return min(before)  # and end anywhere


def test_the_distance_is_that_of_the_table_of_all_distances() -> None:
    generator = random.Random(0)
    for _ in range(300):
        alphabet = generator.choice(["ab", "abcd", "abcdefgh"])
        pattern = "".join(generator.choices(alphabet, k=generator.randint(1, 70)))
        text = "".join(generator.choices(alphabet, k=generator.randint(0, 90)))
        assert passage_distance(pattern, text) == changes(pattern, text)


TRAINING = [random_tune(seed) for seed in range(60)]


def test_a_copy_is_found_whole_in_part_and_in_another_key() -> None:
    collection = Collection(TRAINING)
    whole = TRAINING[7]
    half = whole[: len(whole) // 2] + "|"
    raised = whole.translate(str.maketrans("CDEFGABcde", "DEFGABcdef")).replace("K:C", "K:D")
    for copy in (whole, half, raised):
        nearest = collection.nearest(copy)
        assert nearest is not None
        assert nearest.place == 7
        # at the cut of the half a bar may be left that has lost its end
        assert nearest.distance < 0.03
        assert nearest.is_near_copy


def test_a_copy_with_some_notes_changed_is_a_near_copy_still() -> None:
    text = TRAINING[3].replace("A", "B", 2)
    nearest = Collection(TRAINING).nearest(text)
    assert nearest is not None
    assert nearest.place == 3
    assert 0 < nearest.distance < 0.1


def test_another_tune_is_far_away() -> None:
    novelty = measure_novelty([random_tune(seed) for seed in range(100, 110)], Collection(TRAINING))
    assert novelty.near_copies == 0.0
    assert novelty.median_distance is not None
    assert novelty.median_distance > 0.5


def test_the_share_of_near_copies_and_the_median_leave_out_what_is_too_short_to_tell() -> None:
    tunes = [TRAINING[0], TRAINING[1], random_tune(200), tune("CDEF|"), "no tune at all"]
    novelty = measure_novelty(tunes, Collection(TRAINING))
    assert [one is None for one in novelty.nearest] == [False, False, False, True, True]
    assert novelty.near_copies == pytest.approx(2 / 3)
    assert novelty.median_distance == 0.0


def test_without_a_tune_there_is_no_number() -> None:
    novelty = measure_novelty(["nothing"], Collection([REEL]))
    assert novelty.median_distance is None
    assert novelty.near_copies is None
