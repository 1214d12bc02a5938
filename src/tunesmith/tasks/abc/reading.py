"""From the text of a tune in ABC notation to what it is made of.

Nothing is guessed: what the standard does not have is a flaw with its line. Text that is not music
(titles, lyrics, chord names, annotations, directives) may be anything.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from tunesmith.tasks.abc.keys import ACCIDENTALS, read_key
from tunesmith.tasks.abc.metre import default_unit, is_compound, read_metre, read_unit
from tunesmith.tasks.abc.tune import (
    LETTERS,
    BarLine,
    Change,
    Ending,
    Event,
    Flaw,
    Overlay,
    Pitch,
    Sound,
    Tune,
    WholeBars,
)

_FIELD = re.compile(r"([A-Za-z+]):(.*)")
_HEADER_LETTERS = frozenset("ABCDFGHIKLMmNOPQRrSTUVWwXYZ+")
# A to G and the rests are notes, also where a colon comes next: it is a repeat sign (3, 4).
_FIELD_IN_MUSIC = re.compile(r"([HI-WYh-wy+]):(.*)")
_MUSIC_LETTERS = frozenset("IKLMmNPQRrsTUVWw+")
_CHANGES = frozenset("KMPV")
_COMMENT = re.compile(r"(?<!\\)%.*")

# Bounded: no note is longer, and a text that a model has run away with is not all one number.
_LENGTH = r"\d{0,3}(?:/{1,6}\d{0,3})?"
_NOTE = rf"(?:\^\^|\^|__|_|=)?[A-Ga-g][',]*{_LENGTH}"
_DECORATION = r"![^!|\s]+!|\+[a-z0-9().<>]+\+|[.~HLMOPSTuv]"
_SYMBOL = re.compile(
    rf"""
      (?P<space>[\s`]+|y\d{{0,3}}|\$)
    | (?P<quoted>"[^"]*")
    | \[(?P<field>[IKLMmNPQRrUV]):(?P<value>[^\]]*)\]
    | \[(?P<ending>\d+(?:[,-]\d+)*)
    | (?P<bar>\.?(?::*\[?\|[|:\]]*|::+))(?P<numbers>\d+(?:[,-]\d+)*)?
    | \[(?P<chord>(?:\s*(?:{_DECORATION})*{_NOTE}-?)+)\s*\](?P<chord_length>{_LENGTH})
    | (?P<grace>\{{/?(?:\s*{_NOTE})*\s*\}})
    | \((?P<tuplet>[2-9])(?::(?P<time>[1-9]?))?(?::(?P<count>[1-9]?))?
    | (?P<note>{_NOTE})
    | (?P<rest>[zx])(?P<rest_length>{_LENGTH})
    | (?P<bars>[ZX])(?P<num_bars>\d{{0,3}})
    | (?P<tie>-)
    | (?P<broken>>{{1,3}}|<{{1,3}})
    | (?P<overlay>&)
    | (?P<slur>[()])
    | (?P<decoration>{_DECORATION})
    """,
    re.VERBOSE,
)
_PARTS_OF_NOTE = re.compile(rf"(\^\^|\^|__|_|=)?([A-Ga-g])([',]*)({_LENGTH})")
_KINDS = (
    "note", "bar", "space", "quoted", "chord", "rest", "tuplet", "tie", "broken", "field", "ending",
    "grace", "bars", "overlay", "slur", "decoration",
)  # fmt: skip
# Notes of a tuplet in the time of how many (4.13); 0 where the metre says: 3 in a compound one.
_TUPLET_TIMES = {2: 3, 3: 2, 4: 3, 5: 0, 6: 2, 7: 0, 8: 3, 9: 0}


def read_tune(text: str) -> Tune:
    """Read one tune, from its X: to its end."""
    reader = _Reader()
    lines = [line.rstrip() for line in text.rstrip().split("\n")]
    num_header = _read_header(reader, lines)
    for number, line in enumerate(lines[num_header:], num_header + 1):
        reader.read_line(line, number)
    reader.finish(len(lines))
    return Tune(reader.fields, tuple(reader.events), tuple(reader.flaws))


def _read_header(reader: _Reader, lines: list[str]) -> int:
    """Read up to K: and return how many lines these are (2.2.1, 3)."""
    letters: list[str] = []
    number = 0
    for number, line in enumerate(lines, 1):
        if line.startswith("%"):
            continue
        match = _FIELD.fullmatch(line)
        if match is None or match[1] not in _HEADER_LETTERS:
            reader.flaw(f"{line[:20]!r} in the header, before any K:", number)
            return number - 1
        letters.append(match[1])
        reader.set_field(match[1], _COMMENT.sub("", match[2]).strip(), number)
        if match[1] == "K":
            break
    if letters[0:1] != ["X"] or not reader.fields["X"].isdecimal():
        reader.flaw("a header that does not begin with X: and a number", 1)
    if letters[1:2] != ["T"]:
        reader.flaw("a header without T: behind X:", min(2, number))
    if letters[-1:] != ["K"]:
        reader.flaw("a header without K: at its end", number)
    if letters.count("X") > 1:
        reader.flaw("a second X: in the header", number)
    return number


class _Reader:
    """Where the reading stands: the fields in force, and what waits for its next note."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.events: list[Event] = []
        self.flaws: list[Flaw] = []
        self._metre: Fraction | None = None
        self._is_compound = False
        self._unit: Fraction | None = None
        self._symbols = ""  # letters that U: has given a meaning
        self._has_ended = False
        self._in_header = True
        self._last: int | None = None  # the sound that a tie or a broken rhythm refers to
        self._broken: Fraction | None = None  # the factor of the next sound
        self._tuplet_left = 0
        self._tuplet_factor = Fraction(1)
        self._slurs = 0

    def flaw(self, found: str, line: int) -> None:
        """Note what is wrong."""
        self.flaws.append(Flaw(found, line))

    def set_field(self, letter: str, value: str, line: int) -> None:
        """Put a field in force."""
        if self._in_header:
            self.fields[letter] = value
            self._in_header = letter != "K"
        elif letter in _CHANGES:
            self.events.append(Change(letter, value, line))
        try:
            match letter:
                case "M":
                    self._metre, self._is_compound = read_metre(value), is_compound(value)
                case "L":
                    self._unit = read_unit(value)
                case "K":
                    read_key(value)
                case "U":
                    self._symbols += value[:1]
                case _:
                    pass
        except ValueError as error:
            self.flaw(str(error), line)

    def read_line(self, line: str, number: int) -> None:
        """Read a line behind the header."""
        if not line.strip():
            self._has_ended = True  # an empty line ends a tune (2.2)
            return
        if line.startswith("%"):
            return
        if self._has_ended:
            self.flaw("text behind the empty line that ends the tune", number)
            return
        if line.startswith("X:"):
            self.flaw("a second tune begins", number)
            return
        match = _FIELD_IN_MUSIC.fullmatch(line)
        if match is None:
            self._read_music(_COMMENT.sub("", line).rstrip().removesuffix("\\"), number)
        elif match[1] in _MUSIC_LETTERS:
            self.set_field(match[1], _COMMENT.sub("", match[2]).strip(), number)
        else:
            self.flaw(f"the field {match[1]}: in the music", number)

    def finish(self, line: int) -> None:
        """Say what has waited for a note in vain."""
        if self._in_header:
            return
        self._end_bar(line)
        if self._slurs:
            self.flaw("a slur that does not end", line)
        if not any(isinstance(event, Sound) and event.pitches for event in self.events):
            self.flaw("a tune without notes", line)

    def _read_music(self, line: str, number: int) -> None:
        place = 0
        while place < len(line):
            match = _SYMBOL.match(line, place)
            if match is not None:
                self._read_symbol(match, number)
                place = match.end()
            elif line[place] in self._symbols:
                place += 1
            else:
                self.flaw(f"{line[place : place + 8]!r}, which is no music", number)
                return

    def _read_symbol(self, match: re.Match[str], line: int) -> None:
        match next(kind for kind in _KINDS if match[kind] is not None):
            case "note":
                pitch, length = _read_note(match["note"])
                self._add_sound((pitch,), length, line)
            case "chord":
                notes = [_read_note(one[0]) for one in _PARTS_OF_NOTE.finditer(match["chord"])]
                # A chord is as long as its first note (4.17).
                length = notes[0][1] * _read_length(match["chord_length"])
                self._add_sound(tuple(pitch for pitch, _ in notes), length, line)
            case "rest":
                self._add_sound((), _read_length(match["rest_length"]), line)
            case "bars":
                self.events.append(WholeBars(int(match["num_bars"] or 1), line))
            case "bar":
                self._end_bar(line)
                self.events.append(BarLine(match["bar"], line, match["numbers"] or ""))
            case "ending":
                self.events.append(Ending(match["ending"], line))
            case "field":
                self.set_field(match["field"], match["value"].strip(), line)
            case "tuplet":
                self._begin_tuplet(match, line)
            case "tie":
                self._tie(line)
            case "broken":
                self._break_rhythm(match["broken"], line)
            case "overlay":
                self._end_bar(line)
                self.events.append(Overlay(line))
            case "slur":
                self._slur(match["slur"], line)
            case _:
                pass  # spaces, chord names, grace notes and decorations take no time

    def _add_sound(self, pitches: tuple[Pitch, ...], length: Fraction, line: int) -> None:
        duration = length * (self._unit or default_unit(self._metre))
        if self._broken is not None:
            duration *= self._broken
            self._broken = None
        if self._tuplet_left:
            duration *= self._tuplet_factor
            self._tuplet_left -= 1
        self._last = len(self.events)
        self.events.append(Sound(pitches, duration, line))
        if not duration:
            self.flaw("a note of no length", line)

    def _slur(self, sign: str, line: int) -> None:
        self._slurs += 1 if sign == "(" else -1
        if self._slurs < 0:
            self.flaw("a slur ends that has not begun", line)
            self._slurs = 0

    def _begin_tuplet(self, match: re.Match[str], line: int) -> None:
        """(p:q:r is p notes in the time of q, for the next r (4.13)."""
        if self._tuplet_left:
            self.flaw("a tuplet begins within another", line)
        num_notes = int(match["tuplet"])
        usual = _TUPLET_TIMES[num_notes] or (3 if self._is_compound else 2)
        self._tuplet_factor = Fraction(int(match["time"] or usual), num_notes)
        self._tuplet_left = int(match["count"] or num_notes)

    def _tie(self, line: int) -> None:
        sound = None if self._last is None else self.events[self._last]
        if self._last is None or not isinstance(sound, Sound) or not sound.pitches:
            self.flaw("a tie behind no note", line)
            return
        self.events[self._last] = replace(sound, is_tied=True)

    def _break_rhythm(self, signs: str, line: int) -> None:
        """a>b: what the second loses of its length the first has more; a<b: the other way (4.4)."""
        sound = None if self._last is None else self.events[self._last]
        if self._last is None or not isinstance(sound, Sound) or self._broken is not None:
            self.flaw(f"{signs!r} behind no note", line)
            return
        short = Fraction(1, 2 ** len(signs))
        first, self._broken = (2 - short, short) if signs[0] == ">" else (short, 2 - short)
        self.events[self._last] = replace(sound, duration=sound.duration * first)

    def _end_bar(self, line: int) -> None:
        if self._tuplet_left:
            self.flaw(f"a tuplet that wants for {self._tuplet_left} notes", line)
        if self._broken is not None:
            self.flaw("a broken rhythm without its second note", line)
        self._last, self._broken, self._tuplet_left = None, None, 0


def _read_note(text: str) -> tuple[Pitch, Fraction]:
    match = _PARTS_OF_NOTE.fullmatch(text)
    assert match is not None, "the symbols' pattern has found it"
    sign, letter, octave, length = match.groups()
    step = LETTERS.index(letter.upper()) + (7 if letter.islower() else 0)
    step += 7 * (octave.count("'") - octave.count(","))
    return Pitch(step, ACCIDENTALS[sign] if sign else None), _read_length(length)


def _read_length(text: str) -> Fraction:
    """3, 3/2, /2, and / for /2, // for /4 (4.3)."""
    above, slash, rest = text.partition("/")
    multiple = int(above or 1)
    if not slash:
        return Fraction(multiple)
    below = rest.lstrip("/")
    divisor = int(below) if below else 2 ** (1 + len(rest))
    return Fraction(multiple, divisor) if divisor else Fraction(0)
