"""A tune as its melody is heard, whatever it is written in: from one note to the next."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tunesmith.tasks.abc.keys import sounding
from tunesmith.tasks.abc.tune import Sound, Tune

_SEMITONES = (0, 2, 4, 5, 7, 9, 11)


class Move(NamedTuple):
    """From a note to the next: semitones upwards, and how many times as long the next one is."""

    semitones: int
    length: Fraction


def melody_of(tune: Tune) -> tuple[Move, ...]:
    """Return the moves of a tune: the same in every key, and at every unit of length.

    Of a chord the highest note is the melody's; tied notes are one; rests are left out.
    """
    heights: list[int] = []
    lengths: list[Fraction] = []
    was_tied = False
    for sound, _, alterations in sounding(tune):
        if not sound.pitches or not sound.duration:
            was_tied = False
            continue
        height = _height(sound, alterations)
        if was_tied and heights[-1] == height:
            lengths[-1] += sound.duration
        else:
            heights.append(height)
            lengths.append(sound.duration)
        was_tied = sound.is_tied
    return tuple(
        Move(heights[i + 1] - heights[i], lengths[i + 1] / lengths[i])
        for i in range(len(heights) - 1)
    )


def _height(sound: Sound, alterations: tuple[int, ...]) -> int:
    """The highest pitch in semitones above the C of `C`."""
    return max(
        12 * (pitch.step // 7) + _SEMITONES[pitch.step % 7] + altered
        for pitch, altered in zip(sound.pitches, alterations, strict=True)
    )
