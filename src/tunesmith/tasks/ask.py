"""Picks the task that asks a row."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from tunesmith.data.conversation import (
    Conversation,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
)
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.recipe.data import DataPart
from tunesmith.tasks import chat, completion
from tunesmith.tasks.question import Question


def ask(sample: Sample, tokenizer: Tokenizer, part: DataPart) -> Question:
    """How a held-out row is put to the model, and the answer that it gives itself."""
    match sample:
        case Conversation():
            return chat.ask(sample, tokenizer, part)
        case PromptCompletion() | PlainText():
            return completion.ask(sample, tokenizer, part)
        case Preference():
            return chat.ask_preference(sample, tokenizer, part)
        case _:
            assert_never(sample)


def until_last_call(sample: Sample) -> Sample:
    """Return a conversation up to its last call of a tool, so that this is what is asked for."""
    if not isinstance(sample, Conversation):
        return sample
    calls = [place for place, turn in enumerate(sample.messages) if turn.tool_calls]
    return replace(sample, messages=sample.messages[: calls[-1] + 1]) if calls else sample
