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
    """Cut an example into pieces that can be printed; their tokens joined are the example's."""
    pieces: list[Piece] = []
    waiting: list[int] = []
    for token, weight in zip(example.tokens.tolist(), example.weights.tolist(), strict=True):
        waiting.append(token)
        text = tokenizer.decode(waiting, skip_special_tokens=False)
        if text.endswith(_HALF_A_CHARACTER) and len(waiting) < _MAX_TOKENS_OF_A_CHARACTER:
            continue
        pieces.append(Piece(text, weight, tuple(waiting)))
        waiting = []
    if waiting:
        text = tokenizer.decode(waiting, skip_special_tokens=False)
        pieces.append(Piece(text, float(example.weights[-1]), tuple(waiting)))
    return tuple(pieces)
