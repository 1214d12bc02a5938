"""Where a tokenizer comes from: what a worker process needs to load the same one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import orjson

from tunesmith.data.tokenizer import TextEncoder, Tokenizer, load_tokenizer


@dataclass(frozen=True)
class TokenizerSource:
    """A model folder, and the special tokens that a recipe sets in place of the folder's own."""

    folder: str
    special_tokens: tuple[tuple[str, str], ...] = ()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded once."""
        return load_tokenizer(self.folder, special_tokens=dict(self.special_tokens))

    def load(self) -> Tokenizer:
        """Load the tokenizer."""
        return self.tokenizer

    def __getstate__(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Only the names travel to another process."""
        return self.folder, self.special_tokens

    def __setstate__(self, state: tuple[str, tuple[tuple[str, str], ...]]) -> None:
        """Take the names back."""
        object.__setattr__(self, "folder", state[0])
        object.__setattr__(self, "special_tokens", state[1])

    def fingerprints(self) -> dict[str, str]:
        """Hashes of everything that decides how a text becomes tokens, by what it is called."""
        template = TextEncoder(self.tokenizer).template or ""
        special = orjson.dumps(dict(self.tokenizer.special_tokens_map), option=orjson.OPT_SORT_KEYS)
        content = (Path(self.folder) / "tokenizer.json").read_bytes()
        return {
            "tokenizer": hashlib.sha256(content).hexdigest(),
            "chat template": hashlib.sha256(template.encode()).hexdigest(),
            "special tokens": hashlib.sha256(special).hexdigest(),
        }
