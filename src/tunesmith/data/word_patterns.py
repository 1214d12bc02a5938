"""What a tokenizer.json says of words: how a text is cut into them, as far as that is certain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SPACE = r" \t\n\x0b\x0c\r"
# The pattern that the ByteLevel pre-tokenizer brings itself (GPT-2's), and those of Llama 3 and of
# Qwen 2: of these it is known that they do not reach over CUT.
_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace("{1,3}", "")
CUT = re.compile(r"(?<=[!-~])(?= [A-Za-z])")
# Normal forms that change no ASCII text, and nothing over a cut.
_HARMLESS_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD"}
_CLASS = re.compile(r"\[(?:\\.|[^\]\\])*\]")
# A pattern whose every part means the same to both engines.
_KNOWN = re.compile(
    r"""(?!.*(?:--|~~|\|\|))  (?:
        [A-Za-z0-9 !"\#%&',\-/:;<=>@_`~]  |  \\[srnt'"!\#%&*+,\-./:;<=>?@\[\]^_`{|}~()$S]
      | \\p\{[LN]\}  |  \[\^? (?: \\p\{[LN]\} | \\[srnt'"!\#*+\-./?\]\[^_|()$] | [^\[\]\\&^] )+ \]
      | \(\?(?:i:|:|!)  |  \)  |  \|  |  (?: [*?+] | \{\d+(?:,\d*)?\} )(?![+?*{])
    )+""",
    re.VERBOSE,
)
# How the ByteLevel pre-tokenizer writes each ASCII character.
LETTERS = {byte: 256 + place for place, byte in enumerate([*range(33), 127])}


def word_patterns(document: Mapping[str, Any]) -> list[re.Pattern[str]] | None:
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
    kinds = [part["type"] for part in parts]
    if None in patterns or kinds.count("ByteLevel") != 1 or kinds[-1] != "ByteLevel":
        return None
    compiled = [re.compile(pattern) for pattern in patterns if pattern]
    return None if any(pattern.groups for pattern in compiled) else compiled


def may_cut(document: Mapping[str, Any]) -> bool:
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

    Nothing is guessed: `^` and `$` (of lines there, of texts here), a dot, a flag, a possessive or
    lazy mark, a look-behind, a class within a class, an escape that is not known.
    """
    folds_other_letters = "(?i:" in pattern and not pattern.isascii()  # there, an eszett is "ss"
    if folds_other_letters or not _KNOWN.fullmatch(pattern):
        return None
    words = _CLASS.sub(lambda found: _class_on_ascii(found[0]), pattern)
    words = (
        words.replace(r"\p{L}", "[A-Za-z]")
        .replace(r"\p{N}", "[0-9]")
        .replace(r"\s", f"[{_SPACE}]")
        .replace(r"\S", f"[^{_SPACE}]")
    )
    try:
        matches_nothing = re.compile(words).match("")
    except re.error:
        return None
    return None if matches_nothing else words


def _class_on_ascii(text: str) -> str:
    return text.replace(r"\p{L}", "A-Za-z").replace(r"\p{N}", "0-9").replace(r"\s", _SPACE)


def characters_without_token(vocabulary: Mapping[str, int]) -> list[str]:
    """Return the ASCII characters that a byte-level vocabulary cannot spell: often a few below 32.

    The library leaves them out, or writes its token for what is unknown.
    """
    return [chr(byte) for byte in range(128) if chr(LETTERS.get(byte, byte)) not in vocabulary]


def added_texts(document: Mapping[str, Any]) -> list[str] | None:
    """Return the tokens that are matched before a text is cut, or None if one is matched oddly.

    The library looks for those that are `normalized` last, in what the others leave, and in normal
    form.
    """
    first: list[str] = []
    last: list[str] = []
    for token in document.get("added_tokens") or []:
        if token.get("lstrip") or token.get("rstrip") or token.get("single_word"):
            return None
        (last if token.get("normalized") else first).append(token["content"])
    changes = document.get("normalizer") is not None
    if changes and any(not text.isascii() or CUT.search(text) for text in last):
        return None
    if any(_may_overlap(one, other) for one in first for other in last):
        return None
    return first + last


def _may_overlap(one: str, other: str) -> bool:
    """Say whether two texts can share characters of a third."""
    ends = any(
        one.endswith(other[:length]) or other.endswith(one[:length])
        for length in range(1, min(len(one), len(other)) + 1)
    )
    return ends or one in other or other in one
