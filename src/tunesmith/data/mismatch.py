"""A prompt with the answer to another prompt, which KTO's reference point is estimated from.

examples      a b | 1 2      c d | 3 4      e | 5          (prompt | answer)
mismatched    a b | 3 4      c d | 5        e | 1 2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from tunesmith.data.render import Example

_MAX_LOOKED_AT = 16  # of the next examples, for one that has another prompt


@dataclass(frozen=True, eq=False)
class Mismatched(Sequence[Example]):
    """Each example's prompt with the answer of the next example that has another prompt.

    After the last example comes the first. Where the next few examples all have the same prompt, it
    is the answer of the next one. What is longer than `max_length` is cut.
    """

    examples: Sequence[Example]
    max_length: int

    def __len__(self) -> int:
        """How many there are: one for each example."""
        return len(self.examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Put one together, or several."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        example = self.examples[index]
        border = _border(example)
        other = self._other(index, example.tokens[:border].tolist())
        start = _border(other)
        tokens = np.concatenate([example.tokens[:border], other.tokens[start:]])
        weights = np.concatenate([example.weights[:border], other.weights[start:]])
        return replace(
            example, tokens=tokens[: self.max_length], weights=weights[: self.max_length]
        )

    def _other(self, index: int, prompt: list[int]) -> Example:
        count = len(self.examples)
        for step in range(1, min(count, _MAX_LOOKED_AT)):
            other = self.examples[(index + step) % count]
            if other.tokens[: _border(other)].tolist() != prompt:
                return other
        return self.examples[(index + 1) % count]


def _border(example: Example) -> int:
    """Return where the answer begins: at the first supervised token."""
    return int(np.flatnonzero(example.weights > 0)[0])
