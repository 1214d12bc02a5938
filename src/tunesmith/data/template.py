r"""From a conversation to the template's text, and where in that text the trained replies are.

Where a reply lies is read off the template itself and never guessed from marker strings: the reply
at message i is found by rendering prefixes.

    render(messages[:i], add_generation_prompt=True)   <user>elm<end>\n<assistant>
    render(messages[:i+1])                             <user>elm<end>\n<assistant>oak<end>\n
                                                                             |-------|  trained

The first is what a server sends, the second what it would have got: the whole rendering must begin
with the first, and with the second up to the end of the reply. Where it does not (a template that
rewrites earlier turns) there is no exact mask, and that is an error. A template with {% generation
%} marks says itself which part of that stretch the model writes.

The trained span begins after the generation prompt, because that is where the model takes over when
it is served. It ends with the first end-of-turn token, because that is where the server stops; what
many templates print after it (a line break, the end of the text) is never generated and so never
trained. A template that ends its turns without any such token is trained to the end of the turn's
text; `has_end` is then False and is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.data.abilities import arguments_as_text
from tunesmith.data.conversation import Message, as_template_input, tools_as_template_input
from tunesmith.data.tokenizer import Offset, TemplateRefusalError, TextEncoder


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
    messages: Sequence[Message],
    wanted: Sequence[int],
    encoder: TextEncoder,
    tools: Sequence[str] = (),
) -> ChatText:
    """Render a conversation and find the replies whose message indices are `wanted`.

    Raises:
        TemplateRefusalError: the template raised.
        CannotMaskError: a wanted reply has no exact place.
    """
    turns = _Turns(messages, encoder, tools)
    if not encoder.has_marks(with_tools=turns.tools is not None):
        whole = turns.text(len(messages))
        return ChatText(whole, tuple(_find(turns, whole, index, None) for index in wanted))
    marked = encoder.apply_template_with_marks(turns.inputs, tools=turns.tools)
    marks = _match_marks(messages, marked.marks)
    replies = tuple(_find(turns, marked.text, index, marks.get(index)) for index in wanted)
    return ChatText(marked.text, replies)


def render_prompt(
    messages: Sequence[Message], encoder: TextEncoder, tools: Sequence[str] = ()
) -> str:
    """Render messages up to where the model is to answer: what a server sends to it.

    Raises:
        TemplateRefusalError: the template raised.
    """
    return _Turns(messages, encoder, tools).prompt(len(messages))


def render_text(
    messages: Sequence[Message], encoder: TextEncoder, tools: Sequence[str] = ()
) -> str:
    """Render a whole conversation.

    Raises:
        TemplateRefusalError: the template raised.
    """
    return _Turns(messages, encoder, tools).text(len(messages))


def end_of_turn(encoder: TextEncoder) -> str | None:
    """Return the text of the token that ends a reply, found by rendering a small conversation."""
    if encoder.template is None:
        return None
    try:
        chat = render_chat((Message("user", "a"), Message("assistant", "b")), (1,), encoder)
    except (TemplateRefusalError, CannotMaskError):
        return None
    (reply,) = chat.replies
    turn = chat.text[reply.start : reply.end]
    closing = encoder.closing_of(turn)
    return turn[slice(*closing)] if closing else None


class _Turns:
    """A conversation in the shape that templates read, to be rendered up to any turn."""

    def __init__(
        self, messages: Sequence[Message], encoder: TextEncoder, tools: Sequence[str]
    ) -> None:
        self.encoder = encoder
        self.tools = tools_as_template_input(tools) if tools else None
        self.inputs = as_template_input(messages)
        for place, message in enumerate(messages):
            if message.thinking or message.tool_calls:
                self.inputs[place] = self._with_other_names(self.inputs[place], message)

    def text(self, num_messages: int) -> str:
        return self.encoder.apply_template(
            self.inputs[:num_messages], tools=self.tools, add_generation_prompt=False
        )

    def prompt(self, num_messages: int) -> str:
        return self.encoder.apply_template(
            self.inputs[:num_messages], tools=self.tools, add_generation_prompt=True
        )

    def _with_other_names(self, values: dict[str, Any], message: Message) -> dict[str, Any]:
        """Add what some templates call otherwise or expect in another shape."""
        if message.thinking:
            # transformers fills in this older name too before it renders.
            values = {"thinking": message.thinking, **values}
        with_tools = self.tools is not None
        if message.tool_calls and arguments_as_text(self.encoder, with_tools=with_tools):
            values["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": given.arguments}}
                for call, given in zip(values["tool_calls"], message.tool_calls, strict=True)
            ]
        return values


def _match_marks(messages: Sequence[Message], marks: tuple[Offset, ...]) -> dict[int, Offset]:
    """Give each assistant message its mark; without one mark a message, none is certain."""
    assistants = [index for index, message in enumerate(messages) if message.role == "assistant"]
    return dict(zip(assistants, marks, strict=True)) if len(assistants) == len(marks) else {}


def _find(turns: _Turns, whole: str, index: int, mark: Offset | None) -> Reply:
    """Find one reply: it must begin and end in the whole text as it does when it is served."""
    prompt = turns.prompt(index)
    if not whole.startswith(prompt):
        raise CannotMaskError(
            f"the prompt of message {index}, as it is served, does not begin the whole text"
        )
    alone = whole if index + 1 == len(turns.inputs) else turns.text(index + 1)
    reply = _close(turns.encoder, index, alone, len(prompt), mark)
    if alone is not whole and not whole.startswith(alone[: reply.end]):
        raise CannotMaskError(f"message {index} changes once later messages follow it")
    return reply


def _close(encoder: TextEncoder, index: int, text: str, start: int, mark: Offset | None) -> Reply:
    """Find where the last reply of a text ends: with its first end-of-turn token, if it has one."""
    if len(text) <= start:
        raise CannotMaskError(f"message {index} is not printed at all")
    if mark is None:
        closing = encoder.closing_of(text[start:])
        end = start + closing[1] if closing else len(text)
        return Reply(index, start, end, has_end=closing is not None)
    if mark[0] < start:
        raise CannotMaskError(
            f"the generation mark of message {index} begins before the generation prompt ends"
        )
    start, end = mark
    if closing := encoder.closing_of(text[start:end]):
        return Reply(index, start, start + closing[1], has_end=True)
    # Marks often leave the end-of-turn token out, and the model would never learn to stop: it is
    # taken from the rest of the turn, where it follows directly.
    closing = encoder.closing_of(text[end:])
    if closing is None or closing[0] > 0:
        return Reply(index, start, end, has_end=False)
    return Reply(index, start, end + closing[1], has_end=True)
