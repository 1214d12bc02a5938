"""The chat task: a conversation is asked up to its last reply, which is the reference."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.conversation import Conversation, Message, Preference
from tunesmith.data.render import prompt_tokens
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.question import Question


def ask(sample: Conversation, tokenizer: Tokenizer, part: DataPart) -> Question:
    """The conversation before its last reply, as the chat template prints it in training."""
    prompt = prompt_tokens(sample, tokenizer, part, "chat")
    last = max(i for i, message in enumerate(sample.messages) if message.role == "assistant")
    return Question(
        row_id=sample.row_id,
        prompt=_for_people(sample.messages[:last]),
        tokens=tuple(prompt.tokens),
        reference=prompt.reference,
        labelled=sample.labelled,
    )


def ask_preference(sample: Preference, tokenizer: Tokenizer, part: DataPart) -> Question:
    """The prompt; the chosen answer is the reference, and where there is none, it is empty."""
    prompt = prompt_tokens(sample, tokenizer, part, "preference")
    answer = sample.chosen or sample.rejected or ()
    said = (*sample.prompt, *answer)
    last = max(i for i, message in enumerate(said) if message.role == "assistant")
    return Question(
        row_id=sample.row_id,
        prompt=_for_people(said[:last]),
        tokens=tuple(prompt.tokens),
        reference=prompt.reference if sample.chosen else "",
    )


def _for_people(messages: Sequence[Message]) -> str:
    """What was said; one user message alone needs no name, and a system message is every row's."""
    said = [message for message in messages if message.role != "system"]
    if len(said) == 1:
        return said[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in said)
