from __future__ import annotations

from tunesmith.tasks.scores.tunes import TuneScores

TUNE = """X:1
T:Test
M:4/4
L:1/4
K:C
CDEF|GABc|cBAG|FEDC|CEGc|BGEC|DFAd|cAFD|
"""
BROKEN = TUNE.replace("GABc|", "GAB|")


def test_a_tune_is_scored_by_what_is_asked_for() -> None:
    assert TuneScores(["tune-valid"], []).values_of(TUNE) == {"tune-valid": 1.0}
    assert TuneScores(["tune-valid"], []).values_of(BROKEN) == {"tune-valid": 0.0}


def test_a_copy_is_no_distance_away_and_a_short_tune_has_none() -> None:
    scores = TuneScores(["tune-distance", "tune-valid"], [TUNE])
    assert scores.values_of(TUNE) == {"tune-valid": 1.0, "tune-distance": 0.0}
    assert "tune-distance" not in scores.values_of("X:1\nM:4/4\nL:1/4\nK:C\nCDEF|")


def test_a_tune_that_a_limit_cut_is_judged_by_its_whole_bars() -> None:
    scores = TuneScores(["tune-valid"], [])
    cut = TUNE.rstrip() + '"G"CD'
    assert scores.values_of(cut) == {"tune-valid": 0.0}
    assert scores.values_of(cut, is_cut=True) == {"tune-valid": 1.0}
    assert scores.values_of(BROKEN.rstrip() + "CD", is_cut=True) == {"tune-valid": 0.0}
