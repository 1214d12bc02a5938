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
    start = TUNE.index("cBAG")
    cut = TUNE.rstrip() + '"G"CD'
    assert scores.values_of(cut) == {"tune-valid": 0.0}
    assert scores.values_of(cut, cut_from=start) == {"tune-valid": 1.0}
    assert scores.values_of(BROKEN.rstrip() + "CD", cut_from=start) == {"tune-valid": 0.0}


def test_who_writes_no_bars_is_not_judged_by_those_that_were_given() -> None:
    scores = TuneScores(["tune-valid"], [])
    given = TUNE.rstrip()
    prose = "\nThe tune goes on and on and never comes to an end"
    assert scores.values_of(given + prose, cut_from=len(given)) == {"tune-valid": 0.0}
    one_bar = "CDEF|" + 2 * prose
    assert scores.values_of(given + one_bar, cut_from=len(given)) == {"tune-valid": 0.0}
