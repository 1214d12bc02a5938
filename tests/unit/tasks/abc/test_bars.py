from __future__ import annotations

from fractions import Fraction

import pytest

from tests.unit.tasks.abc.tunes import JIG, REEL, tune
from tunesmith.tasks.abc.bars import bar_flaws, bars_of
from tunesmith.tasks.abc.reading import read_tune


def flaws(text: str) -> list[str]:
    read = read_tune(text)
    assert not read.flaws
    return [str(flaw) for bars in bars_of(read).values() for flaw in bar_flaws(bars)]


@pytest.mark.parametrize(
    "music",
    [
        "A8|B8|",
        "A8|B8",
        "A2|B8|c6:|",  # the last bar leaves the upbeat its time
        "A2|:B8|c8:|",  # an upbeat before what is repeated
        "A2|B8|c6:|d2|e8|f6:|",
        "A2|B8|c6:|e8|f8:|",  # the upbeat is the first part's alone
        "A2|B8|[1c6:|[2c8||",
        "A2|B8|[1c6A2:|[2c6d2||",
        "A2|B8|c4|[1c4:|[2c4||",  # the endings begin in the middle of a bar
        "A8|B4:|c4|d8|",  # a repeat sign in the middle of a bar
        "A8|1B8:|2c8||",
        "A8|Z2|B8|",
        "A8&c4e4|B8|",
        "A8|[M:3/4]B6|c6|[M:4/4]d8|]",
        "P:A\nA2|B8|c6||\nP:B\nd2|e8|f6||",
    ],
)
def test_bars_are_full_or_filled_by_what_is_played_next(music: str) -> None:
    assert flaws(tune(music)) == []


@pytest.mark.parametrize("text", [REEL, JIG])
def test_a_tune_with_everything_that_is_usual_has_full_bars(text: str) -> None:
    assert flaws(text) == []


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        ("A8|B7|c8|", "a bar of 7/8 whole notes, too short for 1"),
        ("A8|B9|c8|", "a bar of 9/8 whole notes, too long for 1"),
        ("A8|B7|", "too short"),  # nothing fills the last bar
        ("A2|B8|c5:|", "a bar of 5/8 whole notes, too short"),
        ("A2|B8|c6:|d1|e8|f6:|", "a bar of 1/8 whole notes, too short"),
        ("A2|B8|c4|[1c3:|[2c4||", "too short"),
        ("A8 B8|c8|", "too long"),  # a bar line is missing
        ("A2|B2|", "no bar that is full"),
        ("A8|A8&c4e3|B8|", "too short"),
        ("A8|[M:3/4]B8|", "too long for 3/4"),
    ],
)
def test_a_bar_that_nothing_fills_is_told(music: str, expected: str) -> None:
    assert any(expected in flaw for flaw in flaws(tune(music))), flaws(tune(music))


def test_without_a_metre_no_bar_is_full() -> None:
    for text in (tune("A8|", metre="none"), "X:1\nT:t\nK:C\nA8|\n"):
        assert any("a bar without a metre" in flaw for flaw in flaws(text))


def test_each_voice_has_bars_of_its_own() -> None:
    both = "[V:1] A8|B8|\n[V:2] c4 e4|d8|\n"
    assert flaws(tune(both)) == []
    assert len(flaws(tune(both.replace("d8", "d7").replace("e4", "e")))) == 2


def test_durations_are_in_whole_notes() -> None:
    (bars,) = bars_of(read_tune(tune("A2|B8|c6:|"))).values()
    assert [bar.duration for bar in bars] == [Fraction(1, 4), Fraction(1), Fraction(3, 4)]
