from __future__ import annotations

import random
import string
from fractions import Fraction

import pytest

from tests.unit.tasks.abc.tunes import JIG, REEL, tune
from tunesmith.tasks.abc.reading import read_tune
from tunesmith.tasks.abc.tune import Change, Sound, WholeBars


def sounds(text: str) -> list[Sound]:
    return [event for event in read_tune(text).events if isinstance(event, Sound)]


def lengths(music: str, **header: str) -> list[Fraction]:
    """Return the lengths of notes in eighths."""
    return [sound.duration * 8 for sound in sounds(tune(music, **header))]


def flaws(text: str) -> list[str]:
    return [str(flaw) for flaw in read_tune(text).flaws]


@pytest.mark.parametrize("text", [REEL, JIG])
def test_a_tune_with_everything_that_is_usual_has_no_flaw(text: str) -> None:
    assert flaws(text) == []
    assert flaws(text.replace("\n", "\r\n")) == []


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        ("A A2 A/2 A/ A// A3/2 A/4 z4", [1, 2, "1/2", "1/2", "1/4", "3/2", "1/4", 4]),
        ("A>B A<B A>>B A2<<B2", ["3/2", "1/2", "1/2", "3/2", "7/4", "1/4", "1/2", "7/2"]),
        ("(3ABc (2AB (3:2:2A2B A", ["2/3"] * 3 + ["3/2"] * 2 + ["4/3", "2/3", 1]),
        ("[CEG]2 [C2E2G2] [c2e2]3/2 [^F,A']", [2, 2, 3, 1]),
        ("A-A {Bc}d !trill!e .f ~g vA uB", [1] * 8),
        ('"Am7/c"A "^slowly"B', [1, 1]),
    ],
)
def test_lengths_are_those_of_the_standard(music: str, expected: list[object]) -> None:
    assert lengths(music) == [Fraction(str(one)) for one in expected]


def test_the_time_of_some_tuplets_depends_on_the_metre() -> None:
    assert lengths("(5ABcde", metre="4/4") == [Fraction(2, 5)] * 5
    assert lengths("(5ABcde", metre="6/8") == [Fraction(3, 5)] * 5


@pytest.mark.parametrize(("metre", "eighths"), [("2/4", "1/2"), ("3/4", 1), ("6/8", 1), ("C", 1)])
def test_without_a_unit_the_metre_gives_it(metre: str, eighths: object) -> None:
    (sound,) = sounds(f"X:1\nT:t\nM:{metre}\nK:C\nA\n")
    assert sound.duration * 8 == Fraction(str(eighths))


def test_fields_within_the_music_are_in_force_from_there() -> None:
    events = read_tune(tune("A[L:1/4]A[M:3/4]|Z2|\nK:G\nL:1/16\nA")).events
    durations = [event.duration for event in events if isinstance(event, Sound)]
    assert durations == [Fraction(1, 8), Fraction(1, 4), Fraction(1, 16)]
    changes = [event for event in events if isinstance(event, Change)]
    assert [(one.letter, one.value) for one in changes] == [("M", "3/4"), ("K", "G")]
    assert [event.count for event in events if isinstance(event, WholeBars)] == [2]


def test_pitches_are_read_with_octave_and_accidental() -> None:
    (sound,) = sounds(tune("[C,c'^F__b=e]"))
    found = [(pitch.step, pitch.accidental) for pitch in sound.pitches]
    assert found == [(-7, None), (14, None), (3, 1), (13, -2), (9, 0)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T:t\nX:1\nM:4/4\nK:C\nA8|", "does not begin with X:"),
        ("X:one\nT:t\nM:4/4\nK:C\nA8|", "does not begin with X:"),
        ("X:1\nM:4/4\nT:t\nK:C\nA8|", "without T: behind X:"),
        ("X:1\nT:t\nM:4/4\nA8|", "line 4: 'A8|' in the header"),
        ("X:1\nT:t\nM:4/4", "without K: at its end"),
        ("X:1\nT:t\nK:C\nM:13/7\nA8|", "'13/7' is no metre"),
        ("X:1\nT:t\nM:4/4\nK:H\nA8|", "'H' is no key"),
        ("X:1\nT:t\nM:4/4\nL:1/7\nK:C\nA8|", "'1/7' is no length"),
        (tune("A8|\n\nThat was it."), "line 8: text behind the empty line"),
        (tune("A8|\nX:2"), "line 7: a second tune"),
        (tune("A8|\nB:book"), "':book', which is no music"),
        (tune("A8|\nS:source"), "the field S: in the music"),
        (tune("A4 qA4|"), "line 6: 'qA4|', which is no music"),
        (tune('A4 "Am A4|'), "which is no music"),
        (tune("A4 [CE A4|"), "which is no music"),
        (tune("A4 {B A4|"), "which is no music"),
        (tune("A2 h A2|"), "which is no music"),
        (tune("A99999|"), "which is no music"),
        (tune("(3AB|A8|"), "a tuplet that wants for 1 notes"),
        (tune("A>|B8|"), "without its second note"),
        (tune("|>A8|"), "behind no note"),
        (tune("-A8|"), "a tie behind no note"),
        (tune("(A8|"), "a slur that does not end"),
        (tune("A8)|"), "a slur ends that has not begun"),
        (tune("A0|"), "a note of no length"),
        (tune("z8|"), "a tune without notes"),
    ],
)
def test_what_the_standard_does_not_have_is_a_flaw_with_its_line(text: str, expected: str) -> None:
    assert any(expected in flaw for flaw in flaws(text)), flaws(text)


def test_symbols_that_the_tune_defines_are_read() -> None:
    assert flaws(tune("A4 hA4|").replace("\nK:", "\nU:h = !fermata!\nK:")) == []


def test_nothing_that_a_model_writes_stops_the_reader() -> None:
    generator = random.Random(0)
    for _ in range(300):
        text = REEL
        for _ in range(generator.choice([1, 5, 50])):
            at = generator.randrange(len(text))
            inserted = generator.choices(
                string.printable + "\u00e9\u0663", k=generator.choice([0, 1, 9])
            )
            text = text[:at] + "".join(inserted) + text[at + generator.choice([0, 1, 9]) :]
        read_tune(text)
    for text in ("", "\n", "X:", "K:", "X:1\nT:\nK:", "A" * 10_000, tune("9" * 10_000)):
        assert read_tune(text).flaws
