"""Where a tokenizer comes from: what a worker process needs to load the same one."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from tunesmith.data.tokenizer import Tokenizer, load_tokenizer

_LIBRARIES = ("tokenizers", "transformers", "jinja2")
# What templates call to print the day: rows of yesterday are not those that are served today.
_PRINTS_DATE = "strftime_now"


@dataclass(frozen=True)
class TokenizerSource:
    """A model folder, with what a recipe sets in place of the folder's own."""

    folder: str
    special_tokens: tuple[tuple[str, str], ...] = ()
    chat_template: str | None = None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, loaded once."""
        return load_tokenizer(
            self.folder,
            special_tokens=dict(self.special_tokens),
            chat_template=self.chat_template,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Only the names travel to another process."""
        return TokenizerSource, (self.folder, self.special_tokens, self.chat_template)

    @cached_property
    def largest_id(self) -> int:
        """The largest number of a token; there may be gaps below it."""
        vocabulary: dict[str, int] = self.tokenizer.backend_tokenizer.get_vocab()
        return max(vocabulary.values())

    def fingerprints(self) -> dict[str, str]:
        """Hashes of everything that decides how a text becomes tokens, by what it is called."""
        templates = self.tokenizer.chat_template
        # tokenizer_config.json may add tokens, or say otherwise which of them are special.
        added = {id: repr(token) for id, token in self.tokenizer.added_tokens_decoder.items()}
        content = (Path(self.folder) / "tokenizer.json").read_bytes()
        return {
            "tokenizer": _hash(content + repr(sorted(added.items())).encode()),
            "chat template": _hash(orjson.dumps(templates, option=orjson.OPT_SORT_KEYS)),
            "special tokens": _hash(
                orjson.dumps(dict(self.tokenizer.special_tokens_map), option=orjson.OPT_SORT_KEYS)
            ),
            "libraries": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
            **({"date": _today()} if _PRINTS_DATE in str(templates) else {}),
        }


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _today() -> str:
    return time.strftime("%Y-%m-%d")
