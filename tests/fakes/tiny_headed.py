"""A tiny random Llama with a head of its own, and labelled rows."""

from __future__ import annotations

import numpy as np
from transformers import LlamaForSequenceClassification, LlamaForTokenClassification

from tests.fakes.tiny_llama import VOCABULARY, make_llama
from tunesmith.data.example import Example
from tunesmith.models.headed import Head, HeadedModel

HEADS = {
    "classes": Head("classes", ("a", "b", "c")),
    "tags": Head("tags", ("O", "B-X", "I-X")),
}
KINDS = {"classes": LlamaForSequenceClassification, "tags": LlamaForTokenClassification}


def make_headed(kind: str) -> HeadedModel:
    """Make a frozen model whose head is new."""
    below, head = make_llama(), HEADS[kind]
    config = below.config
    config.num_labels, config.pad_token_id = len(head.labels), 0
    config.classifier_dropout = 0.0  # one process draws other masks than several
    model = KINDS[kind](config)
    model.model.load_state_dict(below.model.state_dict())
    model.eval().requires_grad_(False)
    return HeadedModel(model, head, ("score",))


def make_labelled(kind: str, lengths: list[int]) -> list[Example]:
    """Make rows of random tokens with a class at the last, or a tag at every second."""
    generator, labels = np.random.default_rng(0), HEADS[kind].labels
    examples: list[Example] = []
    for row, length in enumerate(lengths):
        places = [length - 1] if kind == "classes" else [*range(1, length, 2)]
        weights = np.zeros(length, dtype=np.float32)
        weights[places] = 1
        examples.append(
            Example(
                row_id=f"rows:{row + 1}",
                file="rows",
                line=row + 1,
                tokens=generator.integers(1, VOCABULARY, length).astype(np.int32),
                weights=weights,
                places=np.array(places, dtype=np.int32),
                labels=tuple(labels[(row + place) % len(labels)] for place in places),
            )
        )
    return examples
