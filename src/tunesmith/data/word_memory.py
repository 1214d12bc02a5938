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
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, cast

from tunesmith.data.word_patterns import (
    CUT,
    LETTERS,
    added_texts,
    characters_without_token,
    may_cut,
    word_patterns,
)

Offset = tuple[int, int]

_MAX_WORDS = 200_000
_LONG_CHARS = 2**18
_MAX_WORD_CHARS = 64


class Places:
    """The characters that each token of a text came from, worked out where they are asked for.

    Every stretch of the text between control tokens has its first character and its first token
    here: what is asked for lies some tokens behind one of them. The tokens of a stretch of ASCII
    have their lengths from the vocabulary; those of another have offsets.
    """

    def __init__(self, ids: list[int], lengths: list[int]) -> None:
        self._ids = ids
        self._lengths = lengths
        self._chars: list[int] = []
        self._tokens: list[int] = []
        self._offsets: list[list[Offset] | None] = []

    def begin(self, char: int, offsets: list[Offset] | None = None) -> None:
        """Say that the tokens from here on belong to the text from a character on."""
        self._chars.append(char)
        self._tokens.append(len(self._ids))
        self._offsets.append(offsets)

    @property
    def offsets(self) -> list[Offset]:
        """The characters of each token."""
        ends = [*self._tokens[1:], len(self._ids)]
        return [
            offset
            for stretch, end in enumerate(ends[: len(self._tokens)])
            for offset in self._walk(stretch, end - self._tokens[stretch])
        ]

    def token_from(self, char: int) -> int:
        """Return the index of the first token that begins at a character or after it."""
        stretch = bisect_right(self._chars, char) - 1
        if stretch < 0:
            return 0
        start, token, offsets = self._chars[stretch], self._tokens[stretch], self._offsets[stretch]
        if offsets is not None:
            return token + bisect_left(offsets, char - start, key=_start)
        ids, lengths = self._ids, self._lengths
        while start < char and token < len(ids):
            start += lengths[ids[token]]
            token += 1
        return token

    def span(self, token: int) -> Offset:
        """Return the characters of one token."""
        stretch = bisect_right(self._tokens, token) - 1
        return self._walk(stretch, token - self._tokens[stretch] + 1)[-1]

    def _walk(self, stretch: int, count: int) -> list[Offset]:
        """Return the characters of the first tokens of a stretch."""
        char, token, offsets = self._chars[stretch], self._tokens[stretch], self._offsets[stretch]
        if offsets is not None:
            return [(char + start, char + end) for start, end in offsets[:count]]
        walked: list[Offset] = []
        for id in self._ids[token : token + count]:
            walked.append((char, char + self._lengths[id]))
            char = walked[-1][1]
        return walked


def _start(offset: Offset) -> int:
    return offset[0]


class WordMemory:
    """Encodes texts for one tokenizer."""

    def __init__(
        self, backend: Any, words: Sequence[re.Pattern[str]], added: list[str], *, may_cut: bool
    ) -> None:
        self._backend = backend
        self._model = backend.model
        self._patterns = words
        self._may_cut = may_cut
        longest_first = sorted(added, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if added else None
        self._tokens: dict[str, list[int]] = {}
        self._special = {text: [backend.token_to_id(text)] for text in added}
        self._others: dict[str, tuple[list[int], list[Offset]]] = {}
        vocabulary = cast("dict[str, int]", backend.get_vocab(with_added_tokens=True))
        self._gaps = characters_without_token(vocabulary)
        # A byte of a word is a character of its piece; an added token's piece is its text.
        self._lengths = [0] * (max(vocabulary.values()) + 1)
        for piece, token in vocabulary.items():
            self._lengths[token] = len(piece)

    @staticmethod
    def of(backend: Any) -> WordMemory | None:
        """Return the memory of a tokenizer of the tokenizers library, or None."""
        document = json.loads(backend.to_str())
        patterns = word_patterns(document)
        added = added_texts(document)
        if patterns is None or added is None:
            return None
        return WordMemory(backend, patterns, added, may_cut=may_cut(document))

    def encode(self, text: str) -> tuple[list[int], Places]:
        """Return the text's tokens, and where in it they came from."""
        pieces = self._added.split(text) if self._added else [text]
        ids: list[int] = []
        places = Places(ids, self._lengths)
        char = 0
        for number, piece in enumerate(pieces):
            if not piece:
                continue
            if number % 2:  # what the pattern captured
                places.begin(char)
                ids += self._special[piece]
            elif self._is_spelled(piece):
                places.begin(char)
                ids += self._encode_ascii(piece)
            else:
                self._encode_other(piece, char, ids, places)
            char += len(piece)
        return ids, places

    def _is_spelled(self, text: str) -> bool:
        """Say whether it is all ASCII, and no character is left out for want of a token."""
        return text.isascii() and not any(gap in text for gap in self._gaps)

    def _encode_ascii(self, text: str) -> list[int]:
        known = self._tokens
        ids: list[int] = []
        for word in self._words(text) if len(text) < _LONG_CHARS else self._words_in_turn(text):
            tokens = known.get(word)
            ids += self._look_up(word) if tokens is None else tokens
        return ids

    def _words(self, text: str) -> list[str]:
        words = [text]
        for pattern in self._patterns:
            words = [word for part in words for word in pattern.findall(part)]
        return words

    def _words_in_turn(self, text: str) -> Iterator[str]:
        """Yield the words of a text so long that a list of them would take much memory."""
        words: Iterator[str] = iter([text])
        for pattern in self._patterns:
            words = _cut(words, pattern)
        return words

    def _look_up(self, word: str) -> list[int]:
        # The model itself is asked: cut once more, a word alone might become several.
        tokens: list[Any] = self._model.tokenize(word.translate(LETTERS))
        ids = [token.id for token in tokens]
        if len(word) <= _MAX_WORD_CHARS and len(self._tokens) < _MAX_WORDS:
            self._tokens[word] = ids
        return ids

    def _encode_other(self, text: str, char: int, ids: list[int], places: Places) -> None:
        """Encode a text with other characters, cut where that changes nothing."""
        ascii_text = ""
        for piece in CUT.split(text) if self._may_cut else [text]:
            if self._is_spelled(piece):
                ascii_text += piece
                continue
            if ascii_text:
                places.begin(char)
                ids += self._encode_ascii(ascii_text)
                char += len(ascii_text)
                ascii_text = ""
            tokens, offsets = self._others.get(piece) or self._ask(piece)
            places.begin(char, offsets)
            ids += tokens
            char += len(piece)
        if ascii_text:
            places.begin(char)
            ids += self._encode_ascii(ascii_text)

    def _ask(self, text: str) -> tuple[list[int], list[Offset]]:
        encoding = self._backend.encode(text, add_special_tokens=False)
        asked = (cast("list[int]", encoding.ids), cast("list[Offset]", encoding.offsets))
        if len(text) <= _MAX_WORD_CHARS and len(self._others) < _MAX_WORDS:
            self._others[text] = asked
        return asked


def _cut(texts: Iterator[str], pattern: re.Pattern[str]) -> Iterator[str]:
    return (found[0] for text in texts for found in pattern.finditer(text))
