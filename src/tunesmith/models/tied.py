"""Whether a model's output head and its token embedding are one matrix."""

from __future__ import annotations

from typing import Any

from torch import nn


def tied_head(model: nn.Module) -> str | None:
    """Return the path of an output head that is the token embedding's own matrix, or None."""
    owner: Any = model
    if not hasattr(owner, "get_output_embeddings"):
        return None
    head, embedding = owner.get_output_embeddings(), owner.get_input_embeddings()
    if head is None or embedding is None:
        return None
    if getattr(head, "weight", None) is not getattr(embedding, "weight", None):
        return None
    return next(path for path, module in model.named_modules() if module is head)
