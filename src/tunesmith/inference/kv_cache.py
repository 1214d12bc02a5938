"""Keys and values of what has been read, kept so that a new token costs no copy of the old ones.

The library's own layer joins old and new into a fresh tensor at every step. This one writes into
room that is kept free behind the tokens:

    keys   [ a b c d . . . . ]  + e  ->  [ a b c d e . . . ]

Room for all that is to come is taken at once: tensors that grow in turn leave holes in the heap
that none of the others fits into.

Shapes: B rows, H key heads, T tokens, D head size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

ROOM_TOKENS = 64


def make_cache(config: PreTrainedConfig, *, room: int = 0) -> Cache:
    """An empty cache for a model: the library's, with its plain attention layers replaced.

    `room` is how many tokens a row will have; more are kept, too, in room that is then added.
    """
    cache = DynamicCache(config=config)
    # Sliding windows and other special layers keep the library's implementation.
    cache.layers = [
        RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def is_plain(cache: Cache) -> bool:
    """Whether every layer sees all that has been read, wherever it stands in the cache."""
    return all(isinstance(layer, RoomyLayer) for layer in cache.layers)


class RoomyLayer(DynamicLayer):
    """One layer's keys and values. A subclass, because the library asks layers for their type."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._keys = _Roomy(room)
        self._values = _Roomy(room)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:  # noqa: ARG002 (the library's)
        """Note what is kept; there is nothing to hold yet."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add the new tokens; all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._keys.append(key_states)
        self.values = self._values.append(value_states)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; a row may be named more than once."""
        self.keys = self._keys.select(indices)
        self.values = self._values.select(indices)


class _Roomy:
    """A tensor that grows along T; what `append` and `select` give is a view of its filled part."""

    def __init__(self, room: int) -> None:
        self._least = room
        self._room_BHTD: Tensor | None = None
        self._length = 0

    def append(self, new_BHTD: Tensor) -> Tensor:
        start, self._length = self._length, self._length + new_BHTD.shape[2]
        if self._room_BHTD is None or self._length > self._room_BHTD.shape[2]:
            rows, heads, _, size = new_BHTD.shape
            width = self._length + ROOM_TOKENS if self._length > self._least else self._least
            larger_BHTD = new_BHTD.new_empty(rows, heads, width, size)
            if self._room_BHTD is not None:
                larger_BHTD[:, :, :start] = self._room_BHTD[:, :, :start]
            self._room_BHTD = larger_BHTD
        self._room_BHTD[:, :, start : self._length] = new_BHTD
        return self._room_BHTD[:, :, : self._length]

    def select(self, rows: Tensor) -> Tensor:
        assert self._room_BHTD is not None, "rows are selected after a first update"
        self._room_BHTD = self._room_BHTD[rows]
        return self._room_BHTD[:, :, : self._length]
