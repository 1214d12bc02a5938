"""Hashes of what a row says: by them equal rows are found, and the side of each."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import assert_never

from tunesmith.data.conversation import (
    Conversation,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
)

_HASH_BYTES = 16


def content_hash(sample: Sample) -> bytes:
    """Return a hash of the texts alone: rows that differ only in weights stay on one side."""
    return _hash(sample, with_weights=False)


def whole_hash(sample: Sample) -> bytes:
    """Return a hash of all that a sample says, its weights too: only equal rows share it."""
    return _hash(sample, with_weights=True)


def value_hash(value: object) -> bytes:
    """Return a hash of a single value, the same for a number and its text."""
    return _hash_texts([str(value)])


def _hash(sample: Sample, *, with_weights: bool) -> bytes:
    return _hash_texts(_fields(sample, with_weights=with_weights))


def _hash_texts(fields: Sequence[str]) -> bytes:
    digest = blake2b(digest_size=_HASH_BYTES)
    for field in fields:
        encoded = field.encode("utf-8")
        digest.update(len(encoded).to_bytes(8))  # so that ("ab", "c") and ("a", "bc") differ
        digest.update(encoded)
    return digest.digest()


def _fields(sample: Sample, *, with_weights: bool) -> list[str]:
    """Return what a sample says as a list of texts that no other sample has."""
    match sample:
        case Conversation():
            fields = _turn_fields(sample.messages, with_weights=with_weights)
            return fields + _tagged("offered", sample.tools) + _label_fields(sample)
        case Preference():
            fields = _turn_fields(sample.prompt, with_weights=with_weights)
            for side, turns in (("chosen", sample.chosen), ("rejected", sample.rejected)):
                if turns is not None:
                    fields += [side, *_turn_fields(turns, with_weights=with_weights)]
            return fields + _tagged("offered", sample.tools)
        case PromptCompletion():
            return [sample.prompt, sample.completion]
        case PlainText():
            return [sample.text]
        case _:
            assert_never(sample)


def _turn_fields(turns: Sequence[Message], *, with_weights: bool) -> list[str]:
    fields: list[str] = []
    for turn in turns:
        fields += [turn.role, turn.content, str(turn.weight) * with_weights]
        # What few turns have stands behind its own word, so that it is mistaken for nothing else.
        if turn.thinking:
            fields += ["thinking", turn.thinking]
        if turn.name:
            fields += ["name", turn.name]
        if turn.tool_call_id:
            fields += ["answers", turn.tool_call_id]
        for call in turn.tool_calls:
            fields += ["call", call.name, call.arguments, call.id]
    return fields


def _label_fields(sample: Conversation) -> list[str]:
    """Return what the turns do not say: tags of words, other right answers, the candidates."""
    labelled = sample.labelled
    if labelled is None:
        return []
    candidates = labelled.texts if labelled.kind == "choices" else ()
    return ["labels", *labelled.labels, *candidates]


def _tagged(word: str, texts: Sequence[str]) -> list[str]:
    return [part for text in texts for part in (word, text)]
