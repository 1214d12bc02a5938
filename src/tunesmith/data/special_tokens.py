"""Other special tokens than a model folder names: begin, end and padding, by the recipe.

Such a token is matched as a whole from then on, and all of it is saved with the tokenizer.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tunesmith.core.errors import Fault, ModelError


def set_special_tokens(tokenizer: Any, special_tokens: Mapping[str, str]) -> None:
    """Give a transformers tokenizer other special tokens, all of them from its vocabulary.

    Raises:
        ModelError: with every token that the vocabulary does not have.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    missing = {name: token for name, token in special_tokens.items() if token not in vocabulary}
    if missing:
        raise ModelError([_not_in(vocabulary, *one, tokenizer) for one in missing.items()])
    for name, token in special_tokens.items():
        before: str | None = getattr(tokenizer, f"{name}_token")
        tokenizer.add_special_tokens({f"{name}_token": token})
        if name == "bos" and before is not None and before != token:
            _replace_automatic_token(tokenizer.backend_tokenizer, before, token, vocabulary[token])


def _not_in(vocabulary: Mapping[str, int], name: str, token: str, tokenizer: Any) -> Fault:
    added = [one.content for one in tokenizer.added_tokens_decoder.values()]
    near = difflib.get_close_matches(token, added, n=3, cutoff=0.4)
    near += [one for one in difflib.get_close_matches(token, vocabulary, n=3) if one not in near]
    hint = f"one of {', '.join(near)}" if near else "a token of the vocabulary"
    return Fault(
        found=f"{name}: {token!r} is not in the vocabulary of {Path(tokenizer.name_or_path).name}",
        where=f"model.special_tokens.{name}",
        fix=f"write {hint}",
    )


def _replace_automatic_token(backend: Any, before: str, token: str, token_id: int) -> None:
    """Let the tokenizer put `token` before a text where it puts `before` by itself."""
    from tokenizers import Tokenizer as Backend

    document = json.loads(backend.to_str())
    changed = _replace_token(document["post_processor"], before, token, token_id)
    if changed != document["post_processor"]:
        document["post_processor"] = changed
        backend.post_processor = Backend.from_str(json.dumps(document)).post_processor


def _replace_token(value: Any, before: str, token: str, token_id: int) -> Any:
    """Replace a token in a template of the tokenizers library, wherever it is named."""
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return [_replace_token(item, before, token, token_id) for item in items]
    if not isinstance(value, dict):
        return value
    given = cast("dict[str, Any]", value)
    if given.get("id") == before and "ids" in given:
        return {**given, "id": token, "ids": [token_id], "tokens": [token]}
    return {
        (token if key == before else key): (
            token
            if key == "id" and item == before
            else _replace_token(item, before, token, token_id)
        )
        for key, item in given.items()
    }
