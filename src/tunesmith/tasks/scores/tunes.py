"""What is measured of each tune that a model writes: is it valid, and how far from known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from tunesmith.tasks.scores.music import check_tune
from tunesmith.tasks.scores.novelty import Collection
from tunesmith.tasks.scores.row_values import TUNE_DISTANCE, TUNE_VALID

TUNE_METRICS = (TUNE_VALID, TUNE_DISTANCE)


class TuneScores:
    """Scores tunes against those that were trained."""

    def __init__(self, names: Sequence[str], trained: Sequence[str]) -> None:
        self._names = [name for name in TUNE_METRICS if name in names]
        self._trained = trained

    @cached_property
    def _collection(self) -> Collection:
        return Collection(self._trained)

    def values_of(self, tune: str, *, is_cut: bool = False) -> Mapping[str, float]:
        """Return the scores of a tune, by name; of a short one no distance.

        A tune that a limit of length has cut is judged by its whole bars: where the limit fell is
        not its writer's doing.
        """
        if is_cut:
            tune = whole_bars(tune)
        found: dict[str, float] = {}
        if TUNE_VALID in self._names:
            found[TUNE_VALID] = float(check_tune(tune).is_valid)
        if TUNE_DISTANCE in self._names:
            nearest = self._collection.nearest(tune)
            if nearest is not None:
                found[TUNE_DISTANCE] = nearest.distance
        return found


def whole_bars(tune: str) -> str:
    """Return a tune up to its last bar line; one without any as it is."""
    end = tune.rfind("|")
    return tune if end < 0 else tune[: end + 1]
