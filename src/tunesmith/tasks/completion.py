"""The completion task: the model goes on from a prompt, or from the first part of a text."""

from __future__ import annotations

from tunesmith.data.conversation import PlainText, PromptCompletion
from tunesmith.data.render import prompt_tokens
from tunesmith.data.tokenizer import Tokenizer
from tunesmith.recipe.data import DataPart
from tunesmith.tasks.question import Question


def ask(sample: PromptCompletion | PlainText, tokenizer: Tokenizer, part: DataPart) -> Question:
    """The prompt as it is, without a template."""
    prompt = prompt_tokens(sample, tokenizer, part, "completion")
    return Question(
        row_id=sample.row_id,
        prompt=tokenizer.decode(prompt.tokens, skip_special_tokens=True),
        tokens=tuple(prompt.tokens),
        reference=prompt.reference,
    )
