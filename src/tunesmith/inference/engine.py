"""What answers prompts: the seam between those who ask and the thing that runs the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True)
class Generated:
    """The answer to one prompt. `tokens` does not hold the stop token that ended it."""

    tokens: tuple[int, ...]
    finish_reason: Literal["stop", "length"]


class Engine(Protocol):
    """Answers prompts given as tokens. Temperature 0 takes the likeliest token each time."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> list[Generated]:
        """Answer all prompts; an answer does not depend on which prompts stand beside it.

        By its number, in `numbers` or else its place, a prompt draws as it would among others.
        """
        ...

    def stream(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[str | Generated]:
        """Answer one prompt in pieces of text as they arise; the last item is the whole answer."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of an answer's tokens."""
        ...
