"""From tokens, one at a time, to pieces of text that never end in half a character.

A character may take several tokens, and some decoders treat the start of a text in their own way.
So a window of tokens is decoded with and without the latest ones, and what has been added is given
out once it no longer ends in the replacement character:

    tokens   clich <C3>   <A9>       !
    pieces   clich  ""    e acute    !
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

HALF = "\N{REPLACEMENT CHARACTER}"


class IncrementalDecoder:
    """Joined, the pieces of `push` and the final `flush` are the text of all tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._shown: list[int] = []  # the tokens of the last piece: context for the next
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """Take one more token; the text that is now certain, often none."""
        self._held.append(token)
        piece = self._added_text()
        if not piece or piece.endswith(HALF):
            return ""
        self._shown, self._held = self._held, []
        return piece

    def flush(self) -> str:
        """What is still held at the end, broken characters and all."""
        piece = self._added_text()
        self._shown, self._held = self._held, []
        return piece

    def _added_text(self) -> str:
        if not self._held:
            return ""
        before = self._decode(self._shown) if self._shown else ""
        return self._decode([*self._shown, *self._held])[len(before) :]
