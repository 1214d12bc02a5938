"""From a sample to scripts: texts to be encoded, and what of each is trained.

A sample is one script, but for two cases. A preference has one for each answer. And where the chat
template prints earlier turns otherwise than they were served, one text cannot hold all replies as
the model would write them: then each reply that is trained gets a script of its own, which ends
with it.

    reply 1 of 2   <user>elm<end><assistant><think></think>oak<end>
    reply 2 of 2   <user>elm<end><assistant>oak<end><user>fir<end><assistant><think></think>ash<end>
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from tunesmith.data.abilities import settle_system
from tunesmith.data.conversation import (
    Conversation,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
)
from tunesmith.data.mask import Span
from tunesmith.data.printed import Given, find_unprinted, loses_thinking
from tunesmith.data.render_fault import cannot_mask, no_template, place_of, refused, unprinted
from tunesmith.data.rows import RowFault
from tunesmith.data.template import CannotMaskError, ChatText, render_chat
from tunesmith.data.tokenizer import TemplateRefusalError, TextEncoder
from tunesmith.recipe.data import DataPart


class CannotRenderError(Exception):
    """A sample has no exact rendering; `fault` says why."""

    def __init__(self, fault: RowFault) -> None:
        super().__init__(fault.found)
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A text, what of it is trained, and what the tokens get around them.

    `has_end` is None where the tokens alone say whether they end. `can_split` where each reply may
    have a script of its own instead.
    """

    text: str
    spans: tuple[Span, ...] = ()
    base_weight: float = 0.0
    adds_eos: bool = False
    has_end: bool | None = None
    part: str = ""
    lost_thinking: bool = False
    is_text: bool = False
    can_split: bool = False


def to_scripts(sample: Sample, encoder: TextEncoder, part: DataPart) -> tuple[Script, ...]:
    """Return the scripts of a sample.

    Raises:
        CannotRenderError: it has none that are exact.
    """
    match sample:
        case Conversation():
            return _scripts_of_chat(sample, encoder, part)
        case Preference():
            return tuple(_scripts_of_preference(sample, encoder, part))
        case PromptCompletion():
            start, end = len(sample.prompt), len(sample.prompt) + len(sample.completion)
            script = Script(
                text=sample.prompt + sample.completion,
                spans=(Span(start, end, 1.0, may_split=True),),
                base_weight=1.0 if part.train_on == "all" else 0.0,
                adds_eos=part.end_token,
            )
            return (script,)
        case PlainText():
            text = Script(text=sample.text, base_weight=1.0, adds_eos=part.end_token, is_text=True)
            return (text,)
        case _:
            assert_never(sample)


def split_replies(sample: Sample, encoder: TextEncoder, part: DataPart) -> tuple[Script, ...]:
    """Return one script for each trained reply of a conversation, which ends with it.

    Raises:
        CannotRenderError: a reply has no exact place even so.
    """
    assert isinstance(sample, Conversation), "only a conversation has several replies"
    chat = _Chat.of(sample, sample.messages, encoder, part)
    weights = reply_weights(chat.messages, part.train_on)
    trained = [index for index, weight in weights.items() if weight]
    number = {index: place for place, index in enumerate(weights, 1)}
    return tuple(
        replace(
            chat.upto(index).script({index: weights[index]}),
            part=f"reply {number[index]} of {len(weights)}",
        )
        for index in trained
    )


def with_system(messages: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    """Give a conversation the recipe's system message where it does not bring its own."""
    if system is None or (messages and messages[0].role == "system"):
        return messages
    return (Message("system", system), *messages)


def replies_of(messages: Sequence[Message]) -> list[int]:
    """Return the places of the assistant's messages."""
    return [index for index, message in enumerate(messages) if message.role == "assistant"]


def reply_weights(
    messages: Sequence[Message], train_on: Literal["assistant", "last-assistant", "all"]
) -> dict[int, float]:
    """Return each reply's weight: its own where the row gives one, else what `train_on` says."""
    replies = replies_of(messages)
    first_trained = replies[-1] if train_on == "last-assistant" and replies else 0
    weights: dict[int, float] = {}
    for index in replies:
        asked = messages[index].weight
        weights[index] = 0.0 if index < first_trained else 1.0 if asked is None else asked
    return weights


def _scripts_of_chat(
    sample: Conversation, encoder: TextEncoder, part: DataPart
) -> tuple[Script, ...]:
    chat = _Chat.of(sample, sample.messages, encoder, part)
    weights = reply_weights(chat.messages, part.train_on)
    base_weight = 1.0 if part.train_on == "all" else 0.0
    special = {index: weight for index, weight in weights.items() if weight != base_weight}
    # The prompts of split replies overlap: trained on them too, they would count more than once.
    can_split = (
        part.unstable_template == "split"
        and base_weight == 0.0
        and any(index + 1 < len(chat.messages) for index in special)
    )
    if not can_split:
        return (chat.script(special, base_weight=base_weight),)
    try:
        return (chat.exact_script(special, base_weight=base_weight, can_split=True),)
    except CannotMaskError:
        return split_replies(sample, encoder, part)


def _scripts_of_preference(
    sample: Preference, encoder: TextEncoder, part: DataPart
) -> Iterator[Script]:
    for word, answer in (("chosen", sample.chosen), ("rejected", sample.rejected)):
        if answer is None:
            continue
        chat = _Chat.of(sample, (*sample.prompt, *answer), encoder, part)
        first = len(chat.messages) - len(answer)
        weights = reply_weights(chat.messages, "assistant")
        answered = {index: weight for index, weight in weights.items() if index >= first and weight}
        yield replace(chat.script(answered), part=word)


@dataclass(frozen=True, slots=True)
class _Chat:
    """A conversation as the template gets it."""

    messages: tuple[Message, ...]
    sample: Conversation | Preference
    encoder: TextEncoder

    @staticmethod
    def of(
        sample: Conversation | Preference,
        messages: tuple[Message, ...],
        encoder: TextEncoder,
        part: DataPart,
    ) -> _Chat:
        if encoder.template is None:
            raise CannotRenderError(no_template(encoder, sample.file))
        messages = settle_system(with_system(messages, part.system), encoder, part.system_role)
        return _Chat(messages, sample, encoder)

    @property
    def place(self) -> RowFault:
        """Where to say that it has no exact rendering."""
        return place_of(self.sample, "messages")

    def upto(self, index: int) -> _Chat:
        """Return the conversation that ends with a message."""
        return replace(self, messages=self.messages[: index + 1])

    def script(self, weights: Mapping[int, float], *, base_weight: float = 0.0) -> Script:
        """Render the conversation with these weights.

        Raises:
            CannotRenderError: there is no exact rendering.
        """
        try:
            return self.exact_script(weights, base_weight=base_weight)
        except CannotMaskError as reason:
            raise CannotRenderError(
                cannot_mask(
                    self.encoder, str(reason), self.place,
                    num_replies=len(weights), trains_all=base_weight > 0,
                )
            ) from reason  # fmt: skip

    def exact_script(
        self, weights: Mapping[int, float], *, base_weight: float, can_split: bool = False
    ) -> Script:
        """Do the same, but let a CannotMaskError through."""
        encoder, messages, tools = self.encoder, self.messages, self.sample.tools
        try:
            chat = render_chat(messages, tuple(weights), encoder, tools)
        except TemplateRefusalError as refusal:
            has_system = bool(messages) and messages[0].role == "system"
            raise CannotRenderError(
                refused(encoder, refusal, self.place, has_system=has_system)
            ) from refusal
        learned = frozenset(
            replies_of(messages) if base_weight else (at for at in weights if weights[at])
        )
        given = Given(messages, tools, learned, chat, encoder)
        if lost := find_unprinted(given):
            raise CannotRenderError(unprinted(encoder, lost, self.place))
        last = replies_of(messages)[-1:]
        return Script(
            text=chat.text,
            spans=tuple(
                Span(one.start, one.end, weights[one.message], may_split=[one.message] == last)
                for one in chat.replies
            ),
            base_weight=base_weight,
            has_end=_has_end(chat, encoder),
            lost_thinking=loses_thinking(given),
            can_split=can_split,
        )


def _has_end(chat: ChatText, encoder: TextEncoder) -> bool:
    if chat.replies:
        return all(reply.has_end for reply in chat.replies)
    return encoder.closing_of(chat.text) is not None
