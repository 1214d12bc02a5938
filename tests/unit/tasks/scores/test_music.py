from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.tasks.abc.tunes import JIG, REEL, tune
from tunesmith.data.rows import Row, read_rows
from tunesmith.tasks.scores.music import check_tune

NOTTINGHAM = Path(__file__).parents[5] / "shared" / "data" / "nottingham"  # beside the repository
NOTE = re.compile(r"(?<![\"{\[A-Za-z!])([A-Ga-g])(\d?)(?![^\[|\n]*\])")


def test_a_tune_that_is_well_made_is_valid() -> None:
    for text in (REEL, JIG):
        check = check_tune(text)
        assert check.reasons == ()
        assert check.is_valid
    assert check_tune(REEL).bars == 10


def test_the_reasons_say_what_is_wrong_and_where() -> None:
    check = check_tune(REEL.replace("BGBd", "BGBdd").replace("~f4-", "q4"))
    assert not check.is_valid
    assert check.reasons[0] == "line 11: 'q4 f2ed|', which is no music"
    assert check.reasons[1] == "line 9: a bar of 9/8 whole notes, too long for 1"


def test_a_few_accidentals_are_music_and_many_are_another_key() -> None:
    assert check_tune(tune("C^CDE FGAB|c8|")).is_valid
    check = check_tune(tune("^C2^D2 E2^F2|^G2^A2 B4|"))
    assert check.reasons == ("2 of 7 notes are in the key",)
    assert not check.keeps_key


def drop_a_note(text: str, generator: random.Random) -> str:
    note = generator.choice(notes_in_the_middle(text))
    return text[: note.start()] + text[note.end() :]


def double_a_note(text: str, generator: random.Random) -> str:
    note = generator.choice(notes_in_the_middle(text))
    return text[: note.start()] + f"{note[1]}{2 * int(note[2] or 1)}" + text[note.end() :]


def change_the_metre(text: str, generator: random.Random) -> str:
    return re.sub("M:[46]/[48]", f"M:{generator.choice(['2/4', '5/4', '9/8', '3/2'])}", text)


def insert_characters(text: str, generator: random.Random) -> str:
    for _ in range(5):
        at = generator.randrange(text.index("|"), len(text))
        text = text[:at] + generator.choice("jkqnrs@#;?*+=_^/") + text[at:]
    return text


def notes_in_the_middle(text: str) -> list[re.Match[str]]:
    """Find notes of bars that no upbeat could fill."""
    first, last = text.index("|", text.index("K:")), text.rindex("|", 0, text.rindex("|"))
    inner = [bar for bar in re.finditer(r"\|([^|:\[\]]*)\|", text) if first < bar.start() < last]
    return [note for bar in inner for note in NOTE.finditer(text, bar.start(1), bar.end(1))]


@pytest.mark.parametrize(
    "mutate", [drop_a_note, double_a_note, change_the_metre, insert_characters]
)
def test_a_tune_that_is_damaged_is_invalid(mutate: Callable[[str, random.Random], str]) -> None:
    generator = random.Random(0)
    for text in (REEL, JIG):
        for _ in range(40):
            damaged = mutate(text, generator)
            assert damaged != text
            assert not check_tune(damaged).is_valid, damaged


@pytest.mark.skipif(not NOTTINGHAM.is_dir(), reason=f"no folder of tunes at {NOTTINGHAM}")
def test_nearly_all_tunes_of_a_real_collection_are_valid_and_the_others_have_a_reason() -> None:
    rows = [row for row in read_rows(str(NOTTINGHAM)) if isinstance(row, Row)]
    checks = [check_tune(row.values["text"]) for row in rows]
    assert len(checks) == 1034
    assert sum(check.is_valid for check in checks) == 1003
    assert all(check.keeps_key for check in checks)
