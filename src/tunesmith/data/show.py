"""The tokens of an example as text, each with its weight: what a run would really train."""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.data.render import Example
from tunesmith.data.tokenizer import Tokenizer

_HALF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"
_MAX_TOKENS_OF_A_CHARACTER = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of a token, or of the few that share one character; `weight` is that of the last."""

    text: str
    weight: float
    tokens: tuple[int, ...]


def show_example(example: Example, tokenizer: Tokenizer) -> tuple[Piece, ...]:
    """Cut an example into pieces that can be printed; their tokens joined are the example's.

    A piece is what its tokens add to the text of the piece before: alone, a token of many
    tokenizers loses the space that it begins with.
    """
    pieces: list[Piece] = []
    waiting: list[int] = []
    before: tuple[int, ...] = ()
    given = zip(example.tokens.tolist(), example.weights.tolist(), strict=True)
    last = len(example.tokens) - 1
    for place, (token, weight) in enumerate(given):
        waiting.append(token)
        text = _added_text(before, waiting, tokenizer)
        is_half = text.endswith(_HALF_A_CHARACTER) and len(waiting) < _MAX_TOKENS_OF_A_CHARACTER
        if is_half and place < last:
            continue
        before = tuple(waiting)
        pieces.append(Piece(text, weight, before))
        waiting = []
    return tuple(pieces)


def _added_text(before: tuple[int, ...], tokens: list[int], tokenizer: Tokenizer) -> str:
    both = tokenizer.decode([*before, *tokens], skip_special_tokens=False)
    known = tokenizer.decode(before, skip_special_tokens=False)
    if both.startswith(known):
        return both[len(known) :]
    return tokenizer.decode(tokens, skip_special_tokens=False)
