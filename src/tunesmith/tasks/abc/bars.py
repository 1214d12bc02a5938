"""From a tune to its bars, and which of them are not full.

A bar is as long as the metre says. Only at the borders of sections (a repeat sign, a double bar
line, a part) may one be short, if what is played next fills it up: the beginning of its own
section, of the next one, or of the tune. The tune itself may begin with an upbeat.

    f | e c c c2 f | ... | A c e a2 :| B ...     6/8: the last bar has five eighths, the upbeat one

Where a first ending begins in the middle of a bar, each ending brings the rest of that bar.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction

from tunesmith.tasks.abc.metre import read_metre
from tunesmith.tasks.abc.tune import (
    BarLine,
    Change,
    Ending,
    Event,
    Flaw,
    Overlay,
    Sound,
    Tune,
    WholeBars,
)


class Border(Enum):
    """What stands between two bars."""

    PLAIN = 0
    SECTION = 1
    ENDING = 2  # a first or second ending begins: the section goes on


@dataclass(frozen=True, slots=True)
class Bar:
    """Durations are in whole notes; `metre` is how long the bar is to be, None where it is free."""

    duration: Fraction
    metre: Fraction | None
    line: int
    border: Border = Border.PLAIN  # behind it

    @property
    def missing(self) -> Fraction:
        """How much it is too short; negative where it is too long."""
        return Fraction(0) if self.metre is None else self.metre - self.duration


def bars_of(tune: Tune) -> dict[str, list[Bar]]:
    """Return the bars of each voice; a tune that names none has one."""
    metre = _metre_of(tune.fields.get("M", ""), None)
    voices: dict[str, _Voice] = {}
    name = ""
    for event in tune.events:
        if isinstance(event, Change) and event.letter == "V":
            name = event.value.split(" ")[0]
            continue
        if name not in voices:
            voices[name] = _Voice(metre)
        voices[name].take(event)
    return {name: voice.finish() for name, voice in voices.items()}


def bar_flaws(bars: Sequence[Bar]) -> Iterator[Flaw]:
    """Say which bars of a voice are not full."""
    for bar in bars:
        if bar.metre is None:
            yield Flaw("a bar without a metre", bar.line)
        elif bar.missing < 0:
            yield _not_full("too long", bar)
    if bars and all(bar.missing for bar in bars):
        yield Flaw("no bar that is full", bars[0].line)
    sections = list(_sections(bars))
    for place, section in enumerate(sections):
        around = _Around(
            before=sections[place - 1].tails if place else (),
            after=sections[place + 1].head if place + 1 < len(sections) else None,
            first=sections[0].head,
        )
        for bar in _unfilled(section, around, is_first=place == 0):
            yield _not_full("too short", bar)


@dataclass(frozen=True)
class _Section:
    """`head` is how much its first bar has where that is short, `tails` the same of its ends."""

    bars: tuple[Bar, ...]

    @property
    def head(self) -> Fraction | None:
        first = self.bars[0]
        return first.duration if first.missing > 0 else None

    @property
    def ends(self) -> tuple[int, ...]:
        """The places of its last bar and of the last bar of each ending but the last."""
        endings = self.endings
        return (*endings[1:], len(self.bars) - 1)

    @property
    def endings(self) -> tuple[int, ...]:
        """The places of the bars behind which an ending begins."""
        return tuple(i for i, bar in enumerate(self.bars) if bar.border is Border.ENDING)

    @property
    def tails(self) -> tuple[Fraction, ...]:
        return tuple(self.bars[i].duration for i in self.ends if self.bars[i].missing > 0)


@dataclass(frozen=True)
class _Around:
    """The ends of the section before, and the beginnings of the next one and of the tune."""

    before: tuple[Fraction, ...]
    after: Fraction | None
    first: Fraction | None


def _sections(bars: Sequence[Bar]) -> Iterator[_Section]:
    section: list[Bar] = []
    for bar in bars:
        section.append(bar)
        if bar.border is Border.SECTION:
            yield _Section(tuple(section))
            section = []
    assert not section, "the last bar ends a section"


def _unfilled(section: _Section, around: _Around, *, is_first: bool) -> Iterator[Bar]:
    """Yield the short bars that nothing fills."""
    endings, ends = section.endings, section.ends
    split = section.bars[endings[0]].missing if endings else Fraction(0)
    for place, bar in enumerate(section.bars):
        if bar.missing <= 0 or (is_first and place == 0):
            continue
        fillings: set[Fraction | None] = set()
        if place == 0:
            fillings |= {*around.before, *section.tails}
        if place in ends:
            fillings |= {section.head, around.after, around.first}
        if endings and place == endings[0] and place + 1 < len(section.bars):
            fillings.add(section.bars[place + 1].duration)
        is_rest = place - 1 in endings and bar.duration == split
        if bar.missing not in fillings and not is_rest:
            yield bar


def _not_full(what: str, bar: Bar) -> Flaw:
    return Flaw(f"a bar of {bar.duration} whole notes, {what} for {bar.metre}", bar.line)


@dataclass
class _Voice:
    """The bars of a voice so far, and the one that is being read."""

    metre: Fraction | None
    bars: list[Bar] = field(default_factory=list[Bar])
    _line: int = 0
    _duration: Fraction = Fraction(0)
    _overlaid: list[Fraction] = field(default_factory=list[Fraction])

    def take(self, event: Event) -> None:
        """Go on with the next event."""
        match event:
            case Sound():
                self._duration += event.duration
                self._line = event.line
            case WholeBars():
                self._end_bar(Border.PLAIN)
                self.bars += [Bar(self.metre or Fraction(0), self.metre, event.line)] * event.count
            case Overlay():
                self._overlaid.append(self._duration)
                self._duration = Fraction(0)
            case BarLine(ending="") if not _is_section(event.text):
                self._end_bar(Border.PLAIN)
            case BarLine():
                self._end_bar(Border.ENDING if event.ending else Border.SECTION)
            case Ending():
                self._end_bar(Border.ENDING)
            case Change(letter="M"):
                self._end_bar(Border.PLAIN)
                self.metre = _metre_of(event.value, self.metre)
            case Change(letter="P"):
                self._end_bar(Border.SECTION)
            case Change():
                pass

    def finish(self) -> list[Bar]:
        """End the last bar, and with it the tune."""
        self._end_bar(Border.SECTION)
        if self.bars:
            self.bars[-1] = replace(self.bars[-1], border=Border.SECTION)
        return self.bars

    def _end_bar(self, border: Border) -> None:
        """Bar lines, parts and endings in a row are one border, which is read in several steps."""
        durations = [*self._overlaid, self._duration]
        if any(durations):
            # Of voices in one bar the one that is not full counts.
            duration = next((one for one in durations if one != self.metre), durations[0])
            self.bars.append(Bar(duration, self.metre, self._line, border))
            self._duration, self._overlaid = Fraction(0), []
        elif self.bars and border.value > self.bars[-1].border.value:
            self.bars[-1] = replace(self.bars[-1], border=border)


def _is_section(bar_line: str) -> bool:
    return ":" in bar_line or sum(bar_line.count(sign) for sign in "|[]") > 1


def _metre_of(value: str, known: Fraction | None) -> Fraction | None:
    """Read a metre; one that cannot be read is the reader's flaw, and changes nothing here."""
    try:
        return read_metre(value)
    except ValueError:
        return known
