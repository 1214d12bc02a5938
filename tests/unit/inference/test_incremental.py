from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models

from tests.fakes.tiny import make_tokenizer
from tunesmith.data.tokenizer import load_tokenizer
from tunesmith.inference.incremental import HALF, IncrementalDecoder

TEXTS = (
    "\U0001f642 \u017elijeb \u6771\u4eac",
    "plain words, and  two spaces ",
    "\U0001f469\u200d\U0001f680 e\u0301 \u0928\u092e\u0938\u094d\u0924\u0947",
    "\n\n\ttabs\r\n",
    "",
)

Decode = Callable[[Sequence[int]], str]


def pieces_of(decode: Decode, tokens: Sequence[int]) -> list[str]:
    decoder = IncrementalDecoder(decode)
    return [*(decoder.push(token) for token in tokens), decoder.flush()]


def byte_level(folder: Path) -> tuple[Decode, Callable[[str], list[int]]]:
    backend = load_tokenizer(make_tokenizer(folder)).backend_tokenizer
    return backend.decode, lambda text: backend.encode(text, add_special_tokens=False).ids


def byte_fallback() -> tuple[Decode, Callable[[str], list[int]]]:
    """As Llama 2 has it: bytes of their own, and a first space that decoding takes away."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"\u2581": 256}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return backend.decode, lambda text: [
        256 if byte == 0x20 else byte for byte in (" " + text).encode()
    ]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_pieces_join_to_the_whole_text_and_hold_no_half_characters(
    tmp_path: Path, text: str, kind: str
) -> None:
    decode, encode = byte_level(tmp_path) if kind == "byte-level" else byte_fallback()
    tokens = encode(text)
    pieces = pieces_of(decode, tokens)
    assert "".join(pieces) == decode(tokens) == text
    assert not any(HALF in piece for piece in pieces)


def test_a_piece_comes_as_soon_as_it_is_certain(tmp_path: Path) -> None:
    decode, encode = byte_level(tmp_path)
    decoder = IncrementalDecoder(decode)
    assert [decoder.push(token) for token in encode("a\u00e9b")] == ["a", "", "\u00e9", "b"]


def test_broken_bytes_come_at_the_end_and_are_not_lost(tmp_path: Path) -> None:
    decode, encode = byte_level(tmp_path)
    tokens = encode("a\U0001f642")[:-1]
    assert "".join(pieces_of(decode, tokens)) == decode(tokens) == f"a{HALF}"


def test_a_replacement_character_that_was_meant_is_given_out(tmp_path: Path) -> None:
    decode, encode = byte_level(tmp_path)
    tokens = encode(f"a{HALF}b{HALF}")
    assert "".join(pieces_of(decode, tokens)) == f"a{HALF}b{HALF}"
