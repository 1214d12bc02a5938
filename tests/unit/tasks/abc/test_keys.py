from __future__ import annotations

import pytest

from tests.unit.tasks.abc.tunes import tune
from tunesmith.tasks.abc.keys import read_key, share_in_key
from tunesmith.tasks.abc.melody import melody_of
from tunesmith.tasks.abc.reading import read_tune


def sharps_and_flats(value: str) -> str:
    altered = {1: "#", -1: "b", 2: "x"}
    signature = read_key(value).signature
    return " ".join(sorted(letter + altered[by] for letter, by in signature.items() if by))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("C", ""),
        ("G", "F#"),
        ("D major", "C# F#"),
        ("Em", "F#"),
        ("Bmin", "C# F#"),
        ("F", "Bb"),
        ("Gm", "Bb Eb"),
        ("Bb", "Bb Eb"),
        ("F#", "A# C# D# E# F# G#"),
        ("ADor", "F#"),
        ("D mixolydian", "F#"),
        ("Gmix", ""),
        ("F lyd", ""),
        ("E phr", ""),
        ("B loc", ""),
        ("none", ""),
        ("HP", "C# F#"),
        ("D clef=bass octave=-1", "C# F#"),
        ("D phr ^f", "Bb Eb F#"),
    ],
)
def test_keys_have_the_signature_of_the_standard(value: str, expected: str) -> None:
    assert sharps_and_flats(value) == expected


@pytest.mark.parametrize("value", ["H", "d", "G##", "C quick", "Fb", "D#"])
def test_what_is_no_key_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"is no key|more than seven"):
        read_key(value)


@pytest.mark.parametrize(
    ("music", "key", "expected"),
    [
        ("CDEF|GABc|", "C", (8, 8)),
        ("C^DEF|DABc|", "C", (7, 8)),  # an accidental holds to the end of its bar
        ("^FfF,F|F4|", "C", (1, 5)),  # in every octave
        ("^FGAF|", "D", (4, 4)),  # written, and in the key
        ("=FGAB|", "D", (3, 4)),
        ("A^GA^F|", "Am", (4, 4)),  # the raised sixth and seventh of minor
        ("A^GA^F|", "C", (2, 4)),
        ("^F2z2|K:G\nF4|", "C", (1, 2)),
        ("[C^EG]4|", "C", (2, 3)),
    ],
)
def test_the_notes_of_a_key_are_counted(music: str, key: str, expected: tuple[int, int]) -> None:
    assert share_in_key(read_tune(tune(music, key=key))) == expected


def test_a_melody_is_the_same_in_every_key_and_unit() -> None:
    first = melody_of(read_tune(tune("C2 DE|F>G A-A z [Ac]|", key="C", unit="1/8")))
    higher = melody_of(read_tune(tune("D2 EF|G>A B-B z [Bd]|", key="D", unit="1/4")))
    assert first == higher
    assert [move.semitones for move in first] == [2, 2, 1, 2, 2, 3]
    assert melody_of(read_tune(tune("C2 D_E|F>G A-A z [Ac]|"))) != first
