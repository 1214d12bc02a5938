"""MinHash signatures: 32 numbers a row, which say how much of two rows is the same.

    text        "Tide is at NINE. "  ->  tideisatnine.  ->  its 8-byte windows, hashed
    signature   the least hash of all windows under each of 32 permutations
    similarity  the share of equal signature values estimates the share of windows that two rows
                have in common (their Jaccard index); its standard error is at most 0.09, and 0.07
                at 0.8

Letter case and white space do not count. Digits do: "2 + 3" and "7 + 8" are different rows. A row's
signature depends on its own text alone, so rows of different files and machines can be compared.

A. Broder, On the resemblance and containment of documents, 1997.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

NUM_HASHES = 32
SHINGLE_BYTES = 8
# What a row without text has in every place; such rows are near to nothing.
NO_TEXT = np.uint32(2**32 - 1)

Signatures = npt.NDArray[np.uint32]

# The whole of a group's work stays in the processor's second cache.
_GROUP_BYTES = 64_000
_LOWER = bytes(byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
_WHITE_SPACE = bytes(range(33)) + b"\x7f"
# Odd numbers of 64 bits whose multiples look random: of the golden ratio, and from SplitMix64.
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def signatures(texts: Sequence[str]) -> Signatures:
    """Return one line of 32 numbers a text; the same on every machine."""
    contents = [_normalised(text) for text in texts]
    found = np.full((len(contents), NUM_HASHES), NO_TEXT, dtype=np.uint32)
    for start, end in _groups(contents):
        if end - start == 1:
            _sign_in_pieces(contents[start], found[start:end])
        else:
            _sign(contents[start:end], found[start:end])
    return found


def _normalised(text: str) -> bytes:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).lower()
    # A lone surrogate is no text; "surrogatepass" lets the checks name it and not this line.
    return text.encode("utf-8", "surrogatepass").translate(_LOWER, _WHITE_SPACE)


def _groups(contents: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Cut rows into runs of a few ten thousand bytes; a longer row is a run alone."""
    start = size = 0
    for index, content in enumerate(contents):
        if size and size + len(content) > _GROUP_BYTES:
            yield start, index
            start, size = index, 0
        size += max(len(content), SHINGLE_BYTES)
    if start < len(contents):
        yield start, len(contents)


def _sign_in_pieces(content: bytes, found: Signatures) -> None:
    """Fill in one row's signature: the least of those of pieces that have all its windows."""
    piece = np.full_like(found, NO_TEXT)
    for start in range(0, max(1, len(content) - SHINGLE_BYTES + 1), _GROUP_BYTES):
        _sign([content[start : start + _GROUP_BYTES + SHINGLE_BYTES - 1]], piece)
        np.minimum(found, piece, out=found)


def _sign(contents: Sequence[bytes], found: Signatures) -> None:
    """Fill in the signatures of some rows; one without text keeps what is there."""
    filled = [content.ljust(SHINGLE_BYTES, b"\0") for content in contents]
    lengths = np.array([len(content) for content in filled], dtype=np.int64)
    ends = np.cumsum(lengths)
    hashes = _hash_windows(b"".join(filled))
    # Two borders a row: its windows lie before the first that reaches into the next row.
    borders = np.empty(2 * len(lengths), dtype=np.int64)
    borders[0::2], borders[1::2] = ends - lengths, ends - SHINGLE_BYTES + 1
    has_text = np.array([len(content) > 0 for content in contents])
    permuted = np.empty_like(hashes)
    for index in range(NUM_HASHES):
        np.multiply(hashes, _FACTORS[index], out=permuted)
        np.add(permuted, _TERMS[index], out=permuted)
        least = np.minimum.reduceat(permuted, borders)[0::2]
        found[has_text, index] = least[has_text]


def _hash_windows(content: bytes) -> npt.NDArray[np.uint32]:
    """Hash every window of 8 bytes; some past the end are there too, and mean nothing."""
    padded = np.frombuffer(content + bytes(2 * SHINGLE_BYTES), dtype=np.uint8)
    num_windows = (len(padded) - SHINGLE_BYTES) // SHINGLE_BYTES * SHINGLE_BYTES
    windows = np.empty(num_windows, dtype=np.uint64)
    for offset in range(SHINGLE_BYTES):
        windows[offset::SHINGLE_BYTES] = padded[offset : offset + num_windows].view("<u8")
    return (mix(windows) >> np.uint64(32)).astype(np.uint32)


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread 64-bit values in place, so that those that differ in one bit differ in half of all."""
    values *= np.uint64(_GOLDEN)
    values ^= values >> np.uint64(29)
    values *= np.uint64(_MIX_1)
    values ^= values >> np.uint64(32)
    return values


def _split_mix(number: int) -> int:
    """Return the number-th value of the SplitMix64 sequence: fixed, whatever numpy draws."""
    mask = 2**64 - 1
    value = (number + 1) * _GOLDEN & mask
    value = (value ^ value >> 30) * _MIX_1 & mask
    value = (value ^ value >> 27) * _MIX_2 & mask
    return value ^ value >> 31


# A permutation of 32-bit numbers is an odd factor and a term.
_FACTORS = np.array([_split_mix(n) >> 32 | 1 for n in range(NUM_HASHES)], dtype=np.uint32)
_TERMS = np.array([_split_mix(n + NUM_HASHES) >> 32 for n in range(NUM_HASHES)], dtype=np.uint32)
