r"""From a conversation to the template's text, and where in that text the trained replies are.

Where a reply lies is read off the template itself and never guessed from marker strings. A template
with {% generation %} marks says it. From any other the reply at message i is found by rendering
prefixes:

    render(messages[:i], add_generation_prompt=True)   <user>elm<end>\n<assistant>
    render(messages[:i+1])                             <user>elm<end>\n<assistant>oak<end>\n
                                                                             |-------|  trained

Both must be prefixes of the whole rendering; where they are not (a template that rewrites earlier
turns) there is no exact mask, and that is an error.

The trained span begins after the generation prompt, because that is where the model takes over when
it is served. It ends with the first end-of-turn token, because that is where the server stops; the
line break that many templates print after it is never generated and so never trained. A template
that ends its turns without any such token is trained to the end of the turn's text; `has_end` is
then False and is reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tunesmith.data.conversation import Message, as_template_input
from tunesmith.data.tokenizer import TemplateRefusalError, TextEncoder

_GENERATION_MARK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


class CannotMaskError(Exception):
    """The template's text does not show exactly where a reply begins or ends."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A trained reply as a span of characters; `message` is its index in the conversation."""

    message: int
    start: int
    end: int
    has_end: bool


@dataclass(frozen=True, slots=True)
class ChatText:
    """A conversation as the template prints it."""

    text: str
    replies: tuple[Reply, ...]


def render_chat(
    messages: tuple[Message, ...], wanted: tuple[int, ...], encoder: TextEncoder
) -> ChatText:
    """Render a conversation and find the replies whose message indices are `wanted`.

    Raises:
        TemplateRefusalError: the template raised.
        CannotMaskError: a wanted reply has no exact place.
    """
    has_marks = bool(_GENERATION_MARK.search(encoder.template or ""))
    whole = encoder.apply_template(
        as_template_input(messages), add_generation_prompt=False, marks=has_marks
    )
    finder = _Finder(messages, whole.text, encoder)
    marked = _match_marks(messages, whole.marks)
    replies = [
        finder.from_mark(index, marked[index]) if index in marked else finder.from_prefixes(index)
        for index in wanted
    ]
    return ChatText(text=whole.text, replies=tuple(replies))


def render_prompt(messages: tuple[Message, ...], encoder: TextEncoder) -> str:
    """Render messages up to where the model is to answer: what a server sends to it."""
    return encoder.apply_template(as_template_input(messages), add_generation_prompt=True).text


def _match_marks(
    messages: tuple[Message, ...], marks: tuple[tuple[int, int], ...]
) -> dict[int, tuple[int, int]]:
    """Give each assistant message its mark; without one mark a message, none is certain."""
    assistants = [index for index, message in enumerate(messages) if message.role == "assistant"]
    return dict(zip(assistants, marks, strict=True)) if len(assistants) == len(marks) else {}


class _Finder:
    """Finds replies in the text of one conversation."""

    def __init__(self, messages: tuple[Message, ...], whole: str, encoder: TextEncoder) -> None:
        self.messages = messages
        self.whole = whole
        self.encoder = encoder

    def from_prefixes(self, index: int) -> Reply:
        start = len(self.prompt(index))
        through = self.render(index + 1)
        if not self.whole.startswith(through):
            raise CannotMaskError(f"message {index} changes once later messages follow it")
        if len(through) <= start:
            raise CannotMaskError(f"message {index} is not printed at all")
        return self.close(index, start, len(through))

    def from_mark(self, index: int, mark: tuple[int, int]) -> Reply:
        start, end = mark
        if index == self.last_assistant and len(self.prompt(index)) > start:
            raise CannotMaskError(
                f"the generation mark of message {index} begins before the generation prompt ends"
            )
        reply = self.close(index, start, end)
        if reply.has_end:
            return reply
        # Marks often leave the end-of-turn token out, and the model would never learn to stop: it
        # is taken from the rest of the turn, where it follows directly.
        through = self.render(index + 1)
        rest = through[end:] if self.whole.startswith(through) else ""
        closing = _closing(self.encoder, rest)
        if closing is None or closing.start() > 0:
            return reply
        return Reply(message=index, start=start, end=end + closing.end(1), has_end=True)

    def close(self, index: int, start: int, end: int) -> Reply:
        """End the span with the turn's first end-of-turn token, where it has one."""
        closing = _closing(self.encoder, self.whole[start:end])
        if closing is None:
            return Reply(message=index, start=start, end=end, has_end=False)
        return Reply(message=index, start=start, end=start + closing.end(1), has_end=True)

    def prompt(self, index: int) -> str:
        """Return what a server would send to get message `index`; it must begin the whole text."""
        prompt = render_prompt(self.messages[:index], self.encoder)
        if not self.whole.startswith(prompt):
            raise CannotMaskError(
                f"the prompt of message {index}, as it is served, does not begin the whole text"
            )
        return prompt

    def render(self, num_messages: int) -> str:
        if num_messages == len(self.messages):
            return self.whole
        return self.encoder.apply_template(
            as_template_input(self.messages[:num_messages]), add_generation_prompt=False
        ).text

    @property
    def last_assistant(self) -> int:
        return max(
            index for index, message in enumerate(self.messages) if message.role == "assistant"
        )


def _closing(encoder: TextEncoder, turn: str) -> re.Match[str] | None:
    """Find the control tokens that a turn ends with; group 1 is the one that ends it."""
    for pattern in encoder.closing_patterns:
        if closing := pattern.search(turn):
            return closing
    return None


def end_of_turn(encoder: TextEncoder) -> str | None:
    """Return the text of the token that ends a reply, found by rendering a small conversation."""
    if encoder.template is None:
        return None
    probe = (Message("user", "a"), Message("assistant", "b"))
    try:
        chat = render_chat(probe, (1,), encoder)
    except (TemplateRefusalError, CannotMaskError):
        return None
    reply = chat.replies[0]
    closing = _closing(encoder, chat.text[reply.start : reply.end])
    return closing.group(1) if closing else None
