from __future__ import annotations

import hashlib
import random
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from tunesmith.data import minhash
from tunesmith.data.minhash import (
    NUM_HASHES,
    SHINGLE_BYTES,
    Signatures,
    signatures,
)
from tunesmith.data.near import NearPair, near_pairs, near_pairs_between

WORDS = re.findall(
    r"\w+",
    "harbour tide pilot berth rope crane cargo mast anchor buoy ferry quay signal weather captain "
    "water morning letter answer question north river bridge engine stone paper winter",
)


def sentence(seed: int, words: int = 60) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) + str(draw.randrange(100)) for _ in range(words))


def changed(text: str, seed: int, words: int) -> str:
    """The text with some of its words replaced."""
    draw = random.Random(seed)
    parts = text.split()
    for place in draw.sample(range(len(parts)), words):
        parts[place] = f"changed{draw.randrange(1000)}"
    return " ".join(parts)


def windows(text: str) -> set[bytes]:
    content = text.lower().replace(" ", "").encode()
    return {content[n : n + SHINGLE_BYTES] for n in range(len(content) - SHINGLE_BYTES + 1)}


def jaccard(one: str, other: str) -> float:
    a, b = windows(one), windows(other)
    return len(a & b) / len(a | b)


def estimate(one: str, other: str) -> float:
    first, second = signatures([one, other])
    return float((first == second).mean())


def test_the_estimate_is_the_exact_share_within_its_standard_error() -> None:
    errors: list[float] = []
    scaled: list[float] = []
    for seed in range(600):
        draw = random.Random(seed)
        letters = [draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(400)]
        text = "".join(letters)
        for place in draw.sample(range(400), 1 + seed % 12):
            letters[place] = "0"
        other = "".join(letters)
        exact = jaccard(text, other)
        error = estimate(text, other) - exact
        errors.append(error)
        scaled.append(error / (exact * (1 - exact) / NUM_HASHES) ** 0.5)
    # No bias: the mean of 600 errors has a standard error of 0.07 / sqrt(600) = 0.003.
    assert abs(float(np.mean(errors))) < 0.01
    # The spread is that of 32 independent draws.
    assert 0.9 < float(np.std(scaled)) < 1.1
    assert max(abs(one) for one in scaled) < 4.5


def test_signatures_do_not_depend_on_the_texts_around() -> None:
    texts = [sentence(seed, words=seed) for seed in range(1, 200)] + ["", "x", "a" * 200_000]
    together = signatures(texts)
    assert together.shape == (len(texts), NUM_HASHES)
    assert together.dtype == np.uint32
    for index in (0, 57, 198, 199, 200, 201):
        assert np.array_equal(together[index], signatures([texts[index]])[0])


def test_signatures_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from tunesmith.data.minhash import signatures; "
        "print(hashlib.sha256(signatures(['The tide is at nine.', 'oak', '']).astype('<u4')"
        ".tobytes()).hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    here = signatures(["The tide is at nine.", "oak", ""]).astype("<u4").tobytes()
    assert ran.stdout.strip() == hashlib.sha256(here).hexdigest()
    # A change of the hashing makes what is kept in caches useless: it shall be on purpose.
    assert ran.stdout.startswith("529b8e1d41caea5f")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The tide is at nine.", "the TIDE  is\n at nine."),
        ("\uff34\uff49\uff44\uff45 at nine o'clock", "tide at nine o'clock"),
        ("a\u00a0morning letter", "a morning letter"),
        ("STRASSE \u00c4\u00d6\u00dc am Hafen", "strasse \u00e4\u00f6\u00fc am hafen"),
    ],
)
def test_letter_case_white_space_and_width_do_not_count(one: str, other: str) -> None:
    assert estimate(one, other) == 1.0


def test_digits_count() -> None:
    assert estimate("12+30=", "45+67=") == 0.0


def test_texts_shorter_than_a_window_are_equal_or_not() -> None:
    assert estimate("yes", "Yes") == 1.0
    assert estimate("yes", "no") == 0.0


def test_rows_without_text_are_near_to_nothing() -> None:
    signed = signatures(["", " ", "\n\t"])
    assert near_pairs(signed).rows == 0
    assert near_pairs_between(signed, signed).rows == 0


@pytest.mark.parametrize("num_words", [20, 38, 39, 40, 200])
def test_a_long_row_is_signed_piece_by_piece_as_it_would_be_at_once(
    monkeypatch: pytest.MonkeyPatch, num_words: int
) -> None:
    texts = [sentence(1, words=num_words), sentence(2, words=num_words) + "!"]
    at_once = signatures(texts)
    for size in range(60, 68):
        monkeypatch.setattr(minhash, "_GROUP_BYTES", size)
        assert np.array_equal(signatures(texts), at_once)


def test_a_lone_surrogate_is_no_reason_to_stop() -> None:
    assert signatures(["a\ud800b"]).shape == (1, NUM_HASHES)


def test_rows_that_nearly_repeat_are_found_and_counted_by_cluster() -> None:
    texts = [sentence(seed) for seed in range(40)]
    texts[7] = changed(texts[3], 1, words=1)
    texts[21] = changed(texts[3], 2, words=1)
    texts[30] = changed(texts[15], 3, words=1)
    found = near_pairs(signatures(texts))
    assert (found.rows, found.clusters, found.largest) == (5, 2, 3)
    assert {pair.first for pair in found.pairs} == {3, 15}
    assert found.pairs[1].second == 30
    for pair in found.pairs:
        assert pair.similarity == estimate(texts[pair.first], texts[pair.second])
        assert pair.similarity >= 0.8


def test_rows_that_differ_are_not_near() -> None:
    found = near_pairs(signatures([sentence(seed) for seed in range(500)]))
    assert (found.rows, found.clusters, found.largest, found.pairs) == (0, 0, 0, ())


def test_no_rows_have_no_near_rows() -> None:
    empty = signatures([])
    assert empty.shape == (0, NUM_HASHES)
    assert near_pairs(empty).rows == 0
    assert near_pairs_between(empty, signatures(["oak"])).rows == 0
    assert near_pairs_between(signatures(["oak"]), empty).rows == 0


def test_few_pairs_are_missed() -> None:
    texts = [sentence(seed) for seed in range(600)]
    others = [changed(text, seed, words=2) for seed, text in enumerate(texts)]
    signed, others_signed = signatures(texts), signatures(others)
    is_near = (signed == others_signed).mean(axis=1) >= 0.8
    assert is_near.sum() > 300
    both = np.concatenate([signed, others_signed])
    assert near_pairs(both).rows >= 0.95 * 2 * is_near.sum()
    assert near_pairs(both).rows <= 2 * is_near.sum()
    between = near_pairs_between(signed, others_signed)
    assert 0.95 * is_near.sum() <= between.rows <= is_near.sum()


def test_a_shared_beginning_does_not_hide_the_clusters_behind_it() -> None:
    """Rows of many clusters meet in one bucket: most of their text is the same."""
    shared = sentence(1, words=40)
    rows: list[str] = []
    for member in range(3):
        rows += [
            changed(f"{sentence(cluster + 100, words=40)} {shared}", member, words=member > 0)
            for cluster in range(60)
        ]
    signed = signatures(rows)
    found = near_pairs(signed)
    truth = near_by_all_pairs(signed)
    assert found.rows >= 0.97 * len(truth)
    assert found.rows <= len(truth)


def near_by_all_pairs(signed: Signatures) -> set[int]:
    def near() -> Iterator[int]:
        for row, line in enumerate(signed):
            similar = (signed == line).mean(axis=1) >= 0.8
            similar[row] = False
            if similar.any():
                yield row

    return set(near())


def test_many_equal_rows_are_one_cluster_and_no_explosion() -> None:
    signed = np.repeat(signatures([sentence(1), sentence(2)]), 20_000, axis=0)
    found = near_pairs(signed)
    assert (found.rows, found.clusters, found.largest) == (40_000, 2, 20_000)
    assert len(found.pairs) == 2
    assert found.pairs[0].similarity == 1.0


def test_a_long_chain_is_one_cluster() -> None:
    text = [f"{word}{n}" for n in range(4) for word in WORDS]
    chain: list[str] = []
    for place in range(len(text)):
        text[place] = f"new{place}"
        chain.append(" ".join(text))
    found = near_pairs(signatures(chain))
    assert found.rows == len(chain)
    assert found.clusters == 1


def test_pairs_between_two_sides_name_a_row_of_each() -> None:
    train = [sentence(seed) for seed in range(50)]
    held_out = [sentence(seed) for seed in range(100, 120)]
    held_out[4] = changed(train[33], 5, words=1)
    held_out[9] = changed(train[33], 6, words=1)
    found = near_pairs_between(signatures(held_out), signatures(train))
    assert found.rows == 2
    assert [(pair.first, pair.second) for pair in found.pairs] == [(4, 33), (9, 33)]
    assert near_pairs_between(signatures(held_out), signatures(train), max_pairs=1).pairs == (
        NearPair(4, 33, found.pairs[0].similarity),
    )
