"""What is measured of each tune that a model writes: is it valid, and how far from known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from tunesmith.tasks.scores.music import check_tune
from tunesmith.tasks.scores.novelty import Collection
from tunesmith.tasks.scores.row_values import TUNE_DISTANCE, TUNE_VALID

TUNE_METRICS = (TUNE_VALID, TUNE_DISTANCE)
# Letters of a bar: of 32,414 in the Nottingham database the longest has 59.
LONGEST_BAR = 60


class TuneScores:
    """Scores tunes against those that were trained."""

    def __init__(self, names: Sequence[str], trained: Sequence[str]) -> None:
        self._names = [name for name in TUNE_METRICS if name in names]
        self._trained = trained

    @cached_property
    def _collection(self) -> Collection:
        return Collection(self._trained)

    def values_of(self, tune: str, *, cut_from: int | None = None) -> Mapping[str, float]:
        """Return the scores of a tune, by name; of a short one no distance.

        Where a limit of length has cut what was written behind place `cut_from`, the tune is judged
        by its whole bars: where the limit fell is not its writer's doing.
        """
        if cut_from is not None:
            tune = whole_bars(tune, cut_from)
        found: dict[str, float] = {}
        if TUNE_VALID in self._names:
            found[TUNE_VALID] = float(check_tune(tune).is_valid)
        if TUNE_DISTANCE in self._names:
            nearest = self._collection.nearest(tune)
            if nearest is not None:
                found[TUNE_DISTANCE] = nearest.distance
        return found


def whole_bars(tune: str, written_from: int) -> str:
    """Return a tune up to its last bar line.

    As it is where none was written, or where more follows than a bar has letters: that is no bar
    which a limit has cut, and whoever writes no bars would be judged by what was given.
    """
    end = tune.rfind("|", written_from)
    return tune if end < 0 or len(tune) - end > LONGEST_BAR else tune[: end + 1]
