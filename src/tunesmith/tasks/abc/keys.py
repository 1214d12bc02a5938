"""Keys: which notes a K: field names (3.1.14), and how many of a tune's notes are among them.

A note is in its key where it sounds as the key signature has it. In minor the raised sixth and
seventh are in the key, too: they are those of the melodic and harmonic minor scales. Written
accidentals hold to the end of the bar, in every octave (4.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tunesmith.tasks.abc.tune import LETTERS, BarLine, Change, Pitch, Sound, Tune

ACCIDENTALS = {"^^": 2, "^": 1, "=": 0, "_": -1, "__": -2}

_SHARPS = "FCGDAEB"  # in the order in which a signature takes them; flats come the other way round
_TONICS = {letter: place - 1 for place, letter in enumerate(_SHARPS)}  # F major has -1 sharps
_MODES = {
    "": 0, "maj": 0, "ion": 0, "lyd": 1, "mix": -1, "dor": -2, "m": -3, "min": -3, "aeo": -3,
    "phr": -4, "loc": -5,
}  # fmt: skip
_MINOR = frozenset({"m", "min", "aeo"})
_KEY = re.compile(r"([A-G])([#b]?)\s*([A-Za-z]*)((?:\s+(?:exp\s+)?(?:\^\^|\^|__|_|=)[A-Ga-g])*)")
_SETTING = re.compile(
    r"\b(?:clef|middle|transpose|octave|stafflines|staffscale|score|sound|shift)=\S+"
    r"|\b(?:treble|alto|tenor|bass|perc)\d?(?:[+-]8)?(?=\s|$)"
)


@dataclass(frozen=True)
class Key:
    """`signature` says how each letter sounds, in semitones; `raised` what else is in the key."""

    signature: dict[str, int]
    raised: frozenset[tuple[str, int]] = frozenset()

    def has(self, letter: str, accidental: int) -> bool:
        """Whether a note that sounds so is in the key."""
        return self.signature[letter] == accidental or (letter, accidental) in self.raised


def read_key(value: str) -> Key:
    """Read what stands behind K:.

    Raises:
        ValueError: it is no key.
    """
    bare = _SETTING.sub("", value).strip()
    if bare in {"", "none"}:
        return Key(_signature(0))
    if bare in {"HP", "Hp"}:  # the bagpipes' scale
        return Key(_signature(2))
    match = _KEY.fullmatch(bare)
    mode = match[3].lower() if match else ""
    mode = mode if mode == "m" else mode[:3]
    if match is None or mode not in _MODES:
        raise ValueError(f"{value!r} is no key")
    altered = {"#": 7, "b": -7, "": 0}[match[2]]
    sharps = _TONICS[match[1]] + altered + _MODES[mode]
    if abs(sharps) > 7:
        raise ValueError(f"{value!r} has more than seven sharps or flats")
    signature = _signature(sharps)
    for sign, letter in re.findall(r"(\^\^|\^|__|_|=)([A-Ga-g])", match[4]):
        signature[letter.upper()] = ACCIDENTALS[sign]
    return Key(signature, _raised(match[1], signature) if mode in _MINOR else frozenset())


def share_in_key(tune: Tune) -> tuple[int, int]:
    """Count the notes that are in their key, and all notes; those of chords count one each."""
    heard = [
        key.has(pitch.letter, altered)
        for sound, key, alterations in sounding(tune)
        for pitch, altered in zip(sound.pitches, alterations, strict=True)
    ]
    return sum(heard), len(heard)


def sounding(tune: Tune) -> Iterator[tuple[Sound, Key, tuple[int, ...]]]:
    """Yield each note, chord and rest with its key and by how much each pitch is altered."""
    key = _key_of(tune.fields.get("K", ""), Key(_signature(0)))
    written: dict[str, int] = {}  # accidentals in this bar
    for event in tune.events:
        match event:
            case BarLine():
                written = {}
            case Change(letter="K"):
                key, written = _key_of(event.value, key), {}
            case Sound():
                yield event, key, tuple(_sounding(one, written, key) for one in event.pitches)
            case _:
                pass


def _key_of(value: str, known: Key) -> Key:
    """Read a key; one that cannot be read is the reader's flaw, and changes nothing here."""
    try:
        return read_key(value)
    except ValueError:
        return known


def _sounding(pitch: Pitch, written: dict[str, int], key: Key) -> int:
    """Return the alteration with which a note sounds; a written one is remembered for the bar."""
    if pitch.accidental is not None:
        written[pitch.letter] = pitch.accidental
    return written.get(pitch.letter, key.signature[pitch.letter])


def _signature(sharps: int) -> dict[str, int]:
    signature = dict.fromkeys(_SHARPS, 0)
    for letter in _SHARPS[:sharps] if sharps > 0 else _SHARPS[7 + sharps :]:
        signature[letter] = 1 if sharps > 0 else -1
    return signature


def _raised(tonic: str, signature: dict[str, int]) -> frozenset[tuple[str, int]]:
    """The sixth and the seventh of a minor key, a semitone higher."""
    place = LETTERS.index(tonic)
    return frozenset(
        (letter, signature[letter] + 1)
        for letter in (LETTERS[(place + 5) % 7], LETTERS[(place + 6) % 7])
    )
