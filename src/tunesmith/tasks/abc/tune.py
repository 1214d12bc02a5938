"""What a tune in ABC notation is made of, in the order in which it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

LETTERS = "CDEFGAB"


@dataclass(frozen=True, slots=True)
class Pitch:
    """A note's place in the staff: `step` counts letters from the C of `C`, `c` is 7.

    `accidental` is in semitones, or None where none is written.
    """

    step: int
    accidental: int | None

    @property
    def letter(self) -> str:
        """Its name without octave and accidental."""
        return LETTERS[self.step % 7]


@dataclass(frozen=True, slots=True)
class Sound:
    """A note, a chord or (without pitches) a rest; `duration` is in whole notes.

    `is_tied` to the next one of its pitch.
    """

    pitches: tuple[Pitch, ...]
    duration: Fraction
    line: int
    is_tied: bool = False


@dataclass(frozen=True, slots=True)
class BarLine:
    """A bar line as it is written; `ending` is what numbers a first or second ending here."""

    text: str
    line: int
    ending: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """A first or second ending that begins without a bar line of its own."""

    numbers: str
    line: int


@dataclass(frozen=True, slots=True)
class Change:
    """A field in the middle of the music: another metre, key, part or voice."""

    letter: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class WholeBars:
    """Rests that fill so many bars."""

    count: int
    line: int


@dataclass(frozen=True, slots=True)
class Overlay:
    """Another voice in the same bar begins: the bar's time starts anew."""

    line: int


Event = Sound | BarLine | Ending | Change | WholeBars | Overlay


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a tune, and in which of its lines, counted from 1."""

    found: str
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.found}"


@dataclass(frozen=True)
class Tune:
    """A tune as it was read: the header's fields by letter, the music, and what could not be read.

    `metre` and `key` are the header's; the music may change them.
    """

    fields: Mapping[str, str]
    events: tuple[Event, ...]
    flaws: tuple[Flaw, ...]
