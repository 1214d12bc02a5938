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
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

Offset = tuple[int, int]

_MAX_WORDS = 200_000
_LONG_CHARS = 2**18
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
        self._patterns = words
        self._may_cut = may_cut
        longest_first = sorted(added, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if added else None
        self._tokens: dict[str, list[int]] = {}
        self._special = {text: [backend.token_to_id(text)] for text in added}
        self._others: dict[str, tuple[list[int], list[Offset]]] = {}
        vocabulary = cast("dict[str, int]", backend.get_vocab(with_added_tokens=True))
        # A byte of a word is a character of its piece; an added token's piece is its text.
        self._lengths = [0] * (max(vocabulary.values()) + 1)
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
        ids: list[int] = []
        places = Places(ids, self._lengths)
        char = 0
        for number, piece in enumerate(pieces):
            if not piece:
                continue
            if number % 2:  # what the pattern captured
                places.begin(char)
                ids += self._special[piece]
            elif piece.isascii():
                places.begin(char)
                ids += self._encode_ascii(piece)
            else:
                self._encode_other(piece, char, ids, places)
            char += len(piece)
        return ids, places

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
        ids = cast("list[int]", self._backend.encode(word, add_special_tokens=False).ids)
        if len(word) <= _MAX_WORD_CHARS and len(self._tokens) < _MAX_WORDS:
            self._tokens[word] = ids
        return ids

    def _encode_other(self, text: str, char: int, ids: list[int], places: Places) -> None:
        """Encode a text with other characters, cut where that changes nothing."""
        ascii_text = ""
        for piece in _CUT.split(text) if self._may_cut else [text]:
            if piece.isascii():
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
