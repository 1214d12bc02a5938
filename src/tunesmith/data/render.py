r"""From a sample to tokens and weights, and the prompt of the same sample as it will be served.

    text      <user>elm<end>\n<assistant>oak<end>\n      (printed by the model's own template)
    weights      0   0   0  0      0       1   1   0      (of each as a target; the first has none)

The text is encoded whole, and a reply's border must be a border between tokens there, with the same
tokens before it that the prompt alone has: then what was trained is what is served, token for
token. Where a token would reach over the border of the last reply (a reply that begins with a line
break), the text is encoded in two pieces at that border, which is how a server meets it. Over an
earlier border there is no one text for all replies, and each gets an example of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple, assert_never

import numpy as np

from tunesmith.core.errors import DataError
from tunesmith.data.abilities import settle_system
from tunesmith.data.conversation import (
    Conversation,
    Message,
    PlainText,
    Preference,
    PromptCompletion,
    Sample,
    texts_of,
)
from tunesmith.data.example import Example, Fitted, fit
from tunesmith.data.fields import HEAD_TASKS
from tunesmith.data.formats import TaskName
from tunesmith.data.labelled_render import render_labelled
from tunesmith.data.mask import Weighed, weigh
from tunesmith.data.render_fault import no_template, place_of, refused, straddles
from tunesmith.data.rows import RowFault
from tunesmith.data.script import (
    CannotRenderError,
    Script,
    replies_of,
    split_replies,
    to_scripts,
    with_system,
)
from tunesmith.data.template import render_chat, render_prompt
from tunesmith.data.tokenizer import (
    Encoding,
    TemplateRefusalError,
    TextEncoder,
    Tokenizer,
    encoder_of,
)
from tunesmith.recipe.data import DataPart

__all__ = [
    "Example",
    "Fitted",
    "Prompt",
    "chat_prompt",
    "fit",
    "has_control_text",
    "prompt_tokens",
    "render",
    "render_all",
    "with_system",
]

_BATCH = 256  # samples encoded in one call: enough for all cores, little enough to hold
_MAX_PROMPT_OF_TEXT = 64


class Prompt(NamedTuple):
    """What a server would send for a sample, and the answer that the sample gives."""

    tokens: list[int]
    reference: str


def render(sample: Sample, tokenizer: Tokenizer, part: DataPart, task: TaskName) -> Example:
    """Render a sample that is one example; raises DataError where it has no exact rendering."""
    (example,) = _render_one(sample, encoder_of(tokenizer), part, task)
    return example


def render_all(
    samples: Iterable[Sample], encoder: TextEncoder, part: DataPart, task: TaskName
) -> Iterator[tuple[Example, ...] | RowFault]:
    """Render samples in batches; each becomes its examples or the fault that prevents them."""
    remaining = iter(samples)
    while batch := list(islice(remaining, _BATCH)):
        if task in HEAD_TASKS:
            yield from render_labelled(batch, encoder, task)
            continue
        written = [_Written.of(sample, encoder, part, task) for sample in batch]
        texts = [script.text for one in written for script in one.scripts]
        encodings = iter(encoder.encode(texts))
        for one in written:
            yield one.fault or _to_examples(one, encodings, encoder, part)


def prompt_tokens(sample: Sample, tokenizer: Tokenizer, part: DataPart, task: TaskName) -> Prompt:
    """Return the prompt of the sample's last reply: a prefix of the sample's own last example.

    Of a plain text it is the first half, at most 64 tokens: the model is to go on from there. Of a
    preference it is the prompt of the better answer.
    """
    encoder = encoder_of(tokenizer)
    match sample:
        case Conversation():
            return _prompt_of_chat(sample.messages, sample.tools, encoder, part)
        case Preference():
            answer = sample.chosen or sample.rejected or ()
            return _prompt_of_chat((*sample.prompt, *answer), sample.tools, encoder, part)
        case PromptCompletion():
            ids = encoder.ids(sample.prompt)
            return Prompt([*encoder.missing_bos(ids), *ids], sample.completion)
        case PlainText():
            (example,) = _render_one(sample, encoder, part, task)
            tokens = example.tokens.tolist()
            num_given = max(1, min(_MAX_PROMPT_OF_TEXT, len(tokens) // 2))
            rest = tokens[num_given : -1 if example.has_end else None]  # the end token is no text
            return Prompt(tokens[:num_given], encoder.decode(rest))
        case _:
            assert_never(sample)


def chat_prompt(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    tools: Sequence[str] = (),
    system_role: Literal["keep", "fold", "drop"] = "keep",
) -> list[int]:
    """Return the tokens that a server sends for a conversation, rendered as in training."""
    encoder = encoder_of(tokenizer)
    place = RowFault(file="the conversation")
    if encoder.template is None:
        raise DataError(no_template(encoder, place.file).to_fault())
    settled = settle_system(tuple(messages), encoder, system_role)
    try:
        text = render_prompt(settled, encoder, tools)
    except TemplateRefusalError as refusal:
        has_system = bool(settled) and settled[0].role == "system"
        fault = refused(encoder, refusal, place, has_system=has_system)
        raise DataError(fault.to_fault()) from refusal
    ids = encoder.ids(text)
    return [*encoder.missing_bos(ids), *ids]


def has_control_text(sample: Sample, encoder: TextEncoder) -> bool:
    """Say whether a text holds what the tokenizer takes for a control token, such as <|im_end|>."""
    return any(map(encoder.holds_control_text, texts_of(sample)))


@dataclass(frozen=True, slots=True)
class _Written:
    """A sample and its scripts, or the fault that prevents them."""

    sample: Sample
    scripts: tuple[Script, ...] = ()
    fault: RowFault | None = None

    @staticmethod
    def of(sample: Sample, encoder: TextEncoder, part: DataPart, task: TaskName) -> _Written:
        is_chat = isinstance(sample, Conversation | Preference)
        assert is_chat == (task != "completion"), "the checks let no sample of another task through"
        try:
            return _Written(sample, to_scripts(sample, encoder, part))
        except CannotRenderError as error:
            return _Written(sample, fault=error.fault)


def _to_examples(
    written: _Written, encodings: Iterator[Encoding], encoder: TextEncoder, part: DataPart
) -> tuple[Example, ...] | RowFault:
    sample, scripts = written.sample, written.scripts
    weighed = [_weigh(script, next(encodings), encoder) for script in scripts]
    if None in weighed and scripts[0].can_split:
        try:
            scripts = split_replies(sample, encoder, part)
        except CannotRenderError as error:
            return error.fault
        pieces = encoder.encode([script.text for script in scripts])
        weighed = [_weigh(*pair, encoder) for pair in zip(scripts, pieces, strict=True)]
    has_control = has_control_text(sample, encoder)
    examples: list[Example] = []
    for script, one in zip(scripts, weighed, strict=True):
        if one is None:
            return straddles(place_of(sample))
        examples.append(_to_example(sample, script, one, encoder, has_control_text=has_control))
    return tuple(examples)


def _weigh(script: Script, encoding: Encoding, encoder: TextEncoder) -> Weighed | None:
    return weigh(script.text, encoding, script.spans, encoder, base_weight=script.base_weight)


def _to_example(
    sample: Sample,
    script: Script,
    weighed: Weighed,
    encoder: TextEncoder,
    *,
    has_control_text: bool,
) -> Example:
    ids, weights = weighed.ids, weighed.weights
    eos = encoder.tokenizer.eos_token_id
    if bos := encoder.missing_bos(ids):
        ids, weights = bos + ids, np.concatenate([_NO_WEIGHT, weights])
    if script.adds_eos and eos is not None and ids[-1:] != [eos]:
        ids, weights = [*ids, eos], np.concatenate([weights, _FULL_WEIGHT])
    weights[:1] = 0.0  # nothing comes before the first token that could predict it
    return Example(
        row_id=sample.row_id,
        file=sample.file,
        line=sample.line,
        tokens=np.fromiter(ids, dtype=np.int32, count=len(ids)),
        weights=weights,
        has_end=ids[-1:] == [eos] if script.has_end is None else script.has_end,
        part=script.part,
        num_bos=_count_bos(ids, encoder),
        control_text=has_control_text,
        lost_thinking=script.lost_thinking,
        is_text=script.is_text,
    )


_NO_WEIGHT = np.zeros(1, dtype=np.float32)
_FULL_WEIGHT = np.ones(1, dtype=np.float32)


def _count_bos(ids: Sequence[int], encoder: TextEncoder) -> int:
    """Count the begin tokens in front: a template may begin every turn with one, which is right."""
    bos = encoder.tokenizer.bos_token_id
    return next((place for place, id in enumerate(ids) if id != bos), len(ids))


def _render_one(
    sample: Sample, encoder: TextEncoder, part: DataPart, task: TaskName
) -> tuple[Example, ...]:
    (rendered,) = render_all([sample], encoder, part, task)
    if isinstance(rendered, RowFault):
        raise DataError(rendered.to_fault())
    return rendered


def _prompt_of_chat(
    messages: tuple[Message, ...], tools: tuple[str, ...], encoder: TextEncoder, part: DataPart
) -> Prompt:
    given = with_system(messages, part.system)
    last = replies_of(given)[-1]
    tokens = chat_prompt(given[:last], encoder.tokenizer, tools=tools, system_role=part.system_role)
    if not given[last].tool_calls:
        return Prompt(tokens, given[last].content)
    settled = settle_system(given[: last + 1], encoder, part.system_role)
    return Prompt(tokens, _printed_reply(settled, tools, encoder))


def _printed_reply(
    messages: Sequence[Message], tools: tuple[str, ...], encoder: TextEncoder
) -> str:
    """Return the last message as the template prints it: the text of a call is the template's."""
    chat = render_chat(messages, (len(messages) - 1,), encoder, tools)
    (reply,) = chat.replies
    text = chat.text[reply.start : reply.end]
    closing = encoder.closing_of(text)
    return text[: closing[0]] if closing else text
