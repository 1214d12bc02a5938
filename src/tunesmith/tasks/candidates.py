"""Candidates for an answer, rendered as the replies that they would be.

Each candidate is an example of its own, in which only its reply has weight: its tokens are those
that the chat template prints for it, the token that ends the turn among them, behind the prompt
that a server would send. So its log-likelihood is the weighted sum over its example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import assert_never

from tunesmith.core.errors import DataError, Fault
from tunesmith.data.conversation import Conversation, Message, PromptCompletion
from tunesmith.data.example import Example
from tunesmith.data.render import render_all
from tunesmith.data.rows import RowFault
from tunesmith.data.tokenizer import Tokenizer, encoder_of
from tunesmith.recipe.data import DataPart


@dataclass(frozen=True)
class Choice:
    """A question and what may be answered. The last reply of `asked`, if it has one, is left out.

    Of a PromptCompletion it is the completion that is left out; its candidates are joined to the
    prompt as they are.
    """

    asked: Conversation | PromptCompletion
    candidates: tuple[str, ...]


def render_candidates(
    choices: Iterable[Choice], tokenizer: Tokenizer, part: DataPart
) -> Iterator[tuple[Example, ...]]:
    """Render the candidates of each question.

    Raises:
        DataError: one has no exact rendering, or is longer than `data.max_length`.
    """
    choices = list(choices)
    # What is trained of the row itself does not matter: here the candidate is what counts.
    part = part.model_copy(update={"train_on": "last-assistant"})
    samples = [sample for choice in choices for sample in _samples_of(choice)]
    task = "chat" if samples and isinstance(samples[0], Conversation) else "completion"
    rendered = iter(render_all(samples, encoder_of(tokenizer), part, task))
    for choice in choices:
        yield tuple(_one(found, part) for found in islice(rendered, len(choice.candidates)))


def _samples_of(choice: Choice) -> Iterator[Conversation | PromptCompletion]:
    asked = choice.asked
    match asked:
        case Conversation():
            given = asked.messages[: -1 if asked.messages[-1].role == "assistant" else None]
            for candidate in choice.candidates:
                yield replace(asked, messages=(*given, Message("assistant", candidate)))
        case PromptCompletion():
            for candidate in choice.candidates:
                yield replace(asked, completion=candidate)
        case _:
            assert_never(asked)


def _one(rendered: Sequence[Example] | RowFault, part: DataPart) -> Example:
    if isinstance(rendered, RowFault):
        raise DataError(rendered.to_fault())
    (example,) = rendered
    if len(example.tokens) > part.max_length:
        raise DataError(_too_long(example, part.max_length))
    return example


def _too_long(example: Example, max_length: int) -> Fault:
    return Fault(
        found=f"a question of {len(example.tokens):,} tokens with one of its candidates, where "
        f"data.max_length is {max_length:,}",
        where=f"{example.file}:{example.line}" if example.line else f"row {example.row_id}",
        fix="set a longer data.max_length, or leave the question out",
    )
