r"""Tokens of a text from a memory of words: the same as the tokenizer's, many times as fast.

A byte-level BPE tokenizer cuts a text into words by a pattern and encodes each word by itself, so a
word has the same tokens wherever it stands. On ASCII its pattern needs no table of Unicode:

    \p{L} -> A-Za-z      \p{N} -> 0-9      \s -> space \t \n \v \f \r

and Python's own engine finds the words. What a word becomes is asked of the tokenizer once. Other
characters are left to the tokenizer, with the words around them up to a place where no pattern
that is known can reach across: before a space and a letter, behind a character that is no space.

Only tokenizers whose parts are all known are read so; `of` returns None for any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Offset = tuple[int, int]

_MAX_WORDS = 200_000
_MAX_WORD_CHARS = 64
_SPACE = r" \t\n\x0b\x0c\r"
# The pattern that the ByteLevel pre-tokenizer brings itself (GPT-2's), and those of Llama 3 and of
# Qwen 2: of these it is known that they do not reach over _CUT.
_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace("{1,3}", "")
_CUT = re.compile(r"(?<=[!-~])(?= [A-Za-z])")
# Normal forms that change no ASCII text, and nothing over a cut.
_HARMLESS_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD"}
_CLASS = re.compile(r"\[(?:\\.|[^\]\\])*\]")


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Some tokens in a row, and their characters; `offsets` where lengths do not tell them."""

    ids: list[int]
    chars: int
    offsets: list[Offset] | None


class Places:
    """The characters that each token of a text came from, worked out when they are asked for."""

    def __init__(self, stretches: Sequence[_Stretch], lengths: npt.NDArray[np.int64]) -> None:
        self._stretches = stretches
        self._lengths = lengths

    @property
    def offsets(self) -> list[Offset]:
        """The characters of each token."""
        return list(zip(self._starts.tolist(), self._ends.tolist(), strict=True))

    def token_from(self, char: int) -> int:
        """Return the index of the first token that begins at a character or after it."""
        return int(np.searchsorted(self._starts, char))

    def span(self, token: int) -> Offset:
        """Return the characters of one token."""
        return int(self._starts[token]), int(self._ends[token])

    @property
    def _starts(self) -> npt.NDArray[np.int64]:
        return self._both[0]

    @property
    def _ends(self) -> npt.NDArray[np.int64]:
        return self._both[1]

    @cached_property
    def _both(self) -> npt.NDArray[np.int64]:
        parts: list[npt.NDArray[np.int64]] = []
        base = 0
        for stretch in self._stretches:
            if stretch.offsets is None:
                lengths = self._lengths[np.asarray(stretch.ids, dtype=np.int64)]
                ends = base + np.cumsum(lengths)
                parts.append(np.stack([ends - lengths, ends]))
            else:
                parts.append(base + np.asarray(stretch.offsets, dtype=np.int64).reshape(-1, 2).T)
            base += stretch.chars
        return np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), dtype=np.int64)


class WordMemory:
    """Encodes texts for one tokenizer."""

    def __init__(
        self, backend: Any, words: Sequence[re.Pattern[str]], added: list[str], *, may_cut: bool
    ) -> None:
        self._backend = backend
        self._patterns = words
        self._may_cut = may_cut
        longest_first = sorted(added, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if added else None
        self._tokens: dict[str, list[int]] = {}
        self._special = {text: [backend.token_to_id(text)] for text in added}
        self._others: dict[str, _Stretch] = {}
        vocabulary = cast("dict[str, int]", backend.get_vocab(with_added_tokens=True))
        # A byte of a word is a character of its piece; an added token's piece is its text.
        self._lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
        for piece, token in vocabulary.items():
            self._lengths[token] = len(piece)

    @staticmethod
    def of(backend: Any) -> WordMemory | None:
        """Return the memory of a tokenizer of the tokenizers library, or None."""
        document = json.loads(backend.to_str())
        patterns = _word_patterns(document)
        added = _added_texts(document)
        if patterns is None or added is None:
            return None
        return WordMemory(backend, patterns, added, may_cut=_may_cut(document))

    def encode(self, text: str) -> tuple[list[int], Places]:
        """Return the text's tokens, and where in it they came from."""
        pieces = self._added.split(text) if self._added else [text]
        stretches: list[_Stretch] = []
        ids: list[int] = []
        chars = 0
        for place, piece in enumerate(pieces):
            if place % 2:  # what the pattern captured
                ids += self._special[piece]
            elif piece.isascii():
                ids += self._encode_ascii(piece)
            else:
                stretches.append(_Stretch(ids, chars, None))
                stretches += self._encode_other(piece)
                ids, chars = [], 0
                continue
            chars += len(piece)
        if not stretches:
            return ids, Places([_Stretch(ids, chars, None)], self._lengths)
        stretches.append(_Stretch(ids, chars, None))
        joined = [token for stretch in stretches for token in stretch.ids]
        return joined, Places(stretches, self._lengths)

    def _encode_ascii(self, text: str) -> list[int]:
        words = [text]
        for pattern in self._patterns:
            words = [word for part in words for word in pattern.findall(part)]
        known = self._tokens
        ids: list[int] = []
        for word in words:
            tokens = known.get(word)
            ids += self._look_up(word) if tokens is None else tokens
        return ids

    def _look_up(self, word: str) -> list[int]:
        ids = cast("list[int]", self._backend.encode(word, add_special_tokens=False).ids)
        if len(word) <= _MAX_WORD_CHARS and len(self._tokens) < _MAX_WORDS:
            self._tokens[word] = ids
        return ids

    def _encode_other(self, text: str) -> list[_Stretch]:
        """Encode a text with other characters, cut where that changes nothing."""
        if not self._may_cut:
            return [self._ask(text)]
        stretches: list[_Stretch] = []
        ascii_text = ""
        for piece in _CUT.split(text):
            if piece.isascii():
                ascii_text += piece
                continue
            if ascii_text:
                ids = self._encode_ascii(ascii_text)
                stretches.append(_Stretch(ids, len(ascii_text), None))
                ascii_text = ""
            stretches.append(self._others.get(piece) or self._ask(piece))
        if ascii_text:
            stretches.append(_Stretch(self._encode_ascii(ascii_text), len(ascii_text), None))
        return stretches

    def _ask(self, text: str) -> _Stretch:
        encoding = self._backend.encode(text, add_special_tokens=False)
        stretch = _Stretch(encoding.ids, len(text), encoding.offsets)
        if len(text) <= _MAX_WORD_CHARS and len(self._others) < _MAX_WORDS:
            self._others[text] = stretch
        return stretch


def _word_patterns(document: Mapping[str, Any]) -> list[re.Pattern[str]] | None:
    """Return the patterns that cut a text into words, one after the other."""
    model, normalizer = document["model"], document.get("normalizer")
    is_plain = (
        model.get("type") == "BPE"
        and not model.get("dropout")
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and not model.get("byte_fallback")
        and (normalizer is None or normalizer.get("type") in _HARMLESS_NORMALIZERS)
    )
    splitter = document.get("pre_tokenizer")
    if not is_plain or splitter is None:
        return None
    parts = splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]
    patterns = [_pattern_of(part) for part in parts]
    if None in patterns or parts[-1]["type"] != "ByteLevel":
        return None
    compiled = [re.compile(pattern) for pattern in patterns if pattern]
    return None if any(pattern.groups for pattern in compiled) else compiled


def _may_cut(document: Mapping[str, Any]) -> bool:
    """Say whether all patterns are among those that are known not to reach over a cut."""
    splitter = document["pre_tokenizer"]
    parts = splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]
    own = [part["pattern"]["Regex"] for part in parts if part["type"] == "Split"]
    return all(pattern in (_BYTE_LEVEL, _LLAMA_3, _QWEN_2) for pattern in own)


def _pattern_of(part: Mapping[str, Any]) -> str | None:
    """Return the words of one pre-tokenizer as a pattern, empty where it cuts nothing."""
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            return _on_ascii(_BYTE_LEVEL) if use_regex else ""
        case {"type": "Digits", "individual_digits": individual}:
            return r"[0-9]|[^0-9]+" if individual else r"[0-9]+|[^0-9]+"
        case {
            "type": "Split", "behavior": "Isolated", "invert": False,
            "pattern": {"Regex": str(pattern)},
        }:  # fmt: skip
            ours = _on_ascii(pattern)
            # What the pattern does not match stands between its words as a word of its own.
            return None if ours is None else f"(?:{ours})|(?:(?!{ours})[\\x00-\\x7f])+"
        case _:
            return None


def _on_ascii(pattern: str) -> str | None:
    """Return a pattern of the tokenizers library as Python's, for ASCII; None if it is not known.

    A possessive or lazy mark, a look-behind, a flag or an escape that is not known is not guessed.
    """
    words = _CLASS.sub(lambda found: _class_on_ascii(found[0]), pattern)
    words = (
        words.replace(r"\p{L}", "[A-Za-z]")
        .replace(r"\p{N}", "[0-9]")
        .replace(r"\s", f"[{_SPACE}]")
        .replace(r"\S", f"[^{_SPACE}]")
    )
    if re.search(r"\\[pPXRdDwWbB]|\(\?<|\(\?>|[*+?}][+]", words):
        return None
    try:
        re.compile(words)
    except re.error:
        return None
    return words


def _class_on_ascii(text: str) -> str:
    return text.replace(r"\p{L}", "A-Za-z").replace(r"\p{N}", "0-9").replace(r"\s", _SPACE)


def _added_texts(document: Mapping[str, Any]) -> list[str] | None:
    """Return the tokens that are matched before a text is cut, or None if one is matched oddly."""
    texts: list[str] = []
    for token in document.get("added_tokens") or []:
        if token.get("lstrip") or token.get("rstrip") or token.get("single_word"):
            return None
        texts.append(token["content"])
    return texts
