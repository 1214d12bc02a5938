"""The scores of music held against a collection of real tunes in ABC notation.

    .venv/bin/python benchmarks/music.py FOLDER [--out FILE]

How many of the tunes are valid and why the others are not; how many of the valid ones are found to
be invalid once they are damaged, a damage at a time; and how far each tenth tune is from the other
nine tenths, which is what a model that makes tunes of its own would come to.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from tunesmith.data.rows import Row, read_rows
from tunesmith.tasks.abc.metre import read_metre
from tunesmith.tasks.scores.music import check_tune
from tunesmith.tasks.scores.novelty import Collection, measure_novelty

Damage = Callable[[str, random.Random], str | None]

ROUNDS = 3
METRES = ("4/4", "6/8", "3/4", "2/4", "9/8", "3/2", "5/4")
NOTE = re.compile(r"((?:\^\^|\^|__|_|=)?[A-Ga-g][',]*)(\d*(?:/+\d*)?)")
# Text, fields, grace notes, chords and decorations hold letters that are no notes of their own.
NO_NOTES = re.compile(r'(?m)^[H-Yh-wy]:.*$|%.*|"[^"]*"|\{[^}]*\}|\[[^\]|:1-9][^\]]*\]|![^!\n]*!')


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = [row for row in read_rows(arguments.folder) if isinstance(row, Row)]
    tunes = [row.values["text"] for row in rows]
    checks = [check_tune(tune) for tune in tunes]
    invalid = {
        f"{Path(row.file).name}:{row.line}": check.reasons[0]
        for row, check in zip(rows, checks, strict=True)
        if not check.is_valid
    }
    valid = [tune for tune, check in zip(tunes, checks, strict=True) if check.is_valid]
    valid = [tune for tune in valid if len(notes_of(tune)) > 5]  # else all of it is chords
    result: dict[str, Any] = {
        "tunes": len(tunes),
        "valid": len(tunes) - len(invalid),
        "valid_share": round(1 - len(invalid) / len(tunes), 4),
        "invalid": invalid,
        "damage_found": {name: found_share(valid, damage) for name, damage in DAMAGES.items()},
        "novelty_of_held_out": held_out_novelty(tunes),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def found_share(tunes: Sequence[str], damage: Damage) -> float:
    """The share of damaged tunes that are invalid."""
    generator = random.Random(0)
    damaged = [damage(tune, generator) for tune in tunes for _ in range(ROUNDS)]
    found = [not check_tune(tune).is_valid for tune in damaged if tune is not None]
    return round(sum(found) / len(found), 4)


def held_out_novelty(tunes: Sequence[str]) -> dict[str, Any]:
    held_out, training = tunes[3::10], [tune for i, tune in enumerate(tunes) if i % 10 != 3]
    started = time.monotonic()
    collection = Collection(training)
    read = time.monotonic()
    novelty = measure_novelty(held_out, collection)
    searched = time.monotonic()
    return {
        "tunes": len(held_out),
        "training_tunes": len(training),
        "median_distance": round(novelty.median_distance or 0.0, 4),
        "near_copies": round(novelty.near_copies or 0.0, 4),
        "seconds_to_read": round(read - started, 2),
        "seconds_to_search": round(searched - read, 2),
    }


def notes_of(tune: str) -> list[re.Match[str]]:
    """The notes of the music that stand by themselves, with their places in the tune."""
    masked = NO_NOTES.sub(lambda match: " " * len(match[0]), tune)
    return list(NOTE.finditer(masked, music_start(tune)))


def music_start(tune: str) -> int:
    return tune.index("\n", tune.index("\nK:") + 1) + 1


def drop_a_note(tune: str, generator: random.Random) -> str:
    note = generator.choice(notes_of(tune))
    return tune[: note.start()] + tune[note.end() :]


def double_a_note(tune: str, generator: random.Random) -> str:
    note = generator.choice(notes_of(tune))
    above, slash, below = note[2].partition("/")
    divisor = int(below.lstrip("/") or 2 ** (1 + len(below))) if slash else 1
    length = Fraction(2 * int(above or 1), divisor)
    return tune[: note.start()] + f"{note[1]}{length}" + tune[note.end() :]


def change_the_metre(tune: str, generator: random.Random) -> str:
    known = {read_metre(value) for value in re.findall(r"\nM:(\S+)", tune)}
    others = [metre for metre in METRES if read_metre(metre) not in known]
    return re.sub(r"\nM:\S+", f"\nM:{generator.choice(others)}", tune)


def drop_a_bar_line(tune: str, generator: random.Random) -> str | None:
    lines = re.compile(r'(?<![|:\]\["])\|(?![|:\]])')
    found = list(lines.finditer(tune, music_start(tune)))
    if not found:
        return None
    at = generator.choice(found).start()
    return tune[:at] + tune[at + 1 :]


def swap_two_notes(tune: str, generator: random.Random) -> str | None:
    """Two notes of unlike length in different bars change places."""
    notes = notes_of(tune)
    for _ in range(50):
        one, other = sorted(generator.sample(notes, 2), key=lambda note: note.start())
        between = tune[one.end() : other.start()]
        if one[2] != other[2] and "|" in between:
            return tune[: one.start()] + other[0] + between + one[0] + tune[other.end() :]
    return None


def alter_half(tune: str, generator: random.Random) -> str:
    """Each other note gets a sharp or a flat."""
    for note in reversed(notes_of(tune)):
        if generator.random() < 0.5:
            altered = generator.choice("^_") + note[0].lstrip("^_=")
            tune = tune[: note.start()] + altered + tune[note.end() :]
    return tune


def insert_characters(count: int) -> Damage:
    """Any characters anywhere in the music: many of them mean something there."""

    def insert(tune: str, generator: random.Random) -> str:
        for _ in range(count):
            at = generator.randrange(music_start(tune), len(tune))
            one = generator.choice(string.ascii_letters + string.digits + string.punctuation)
            tune = tune[:at] + one + tune[at:]
        return tune

    return insert


def drop_field(letter: str) -> Damage:
    return lambda tune, _: re.sub(rf"(^|\n){letter}:[^\n]*", "", tune)


DAMAGES: dict[str, Damage] = {
    "a note left out": drop_a_note,
    "a note of twice the length": double_a_note,
    "another metre": change_the_metre,
    "a bar line left out": drop_a_bar_line,
    "two notes of unlike length swapped": swap_two_notes,
    "half of the notes altered": alter_half,
    "1 character inserted": insert_characters(1),
    "3 characters inserted": insert_characters(3),
    "10 characters inserted": insert_characters(10),
    **{f"no {letter}:": drop_field(letter) for letter in "XTMK"},
}


if __name__ == "__main__":
    main()
